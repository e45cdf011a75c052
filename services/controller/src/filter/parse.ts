// The filter of lists: `phase = RUNNING AND (labels.env = "prod" OR NOT name = "web*")`. docs/api.md has the grammar.
import { invalid, type PitwallError } from "@pitwall/runtime";

const maxLength = 2_000;
const maxDepth = 32;

export const operators = ["=", "!=", "<", "<=", ">", ">="] as const;
export type Operator = (typeof operators)[number];

export interface Comparison {
  readonly kind: "compare";
  readonly field: string;
  readonly operator: Operator;
  readonly value: string;
  /** Where the field begins in the text, from 0. */
  readonly at: number;
}

export type Expression =
  | Comparison
  | { readonly kind: "not"; readonly of: Expression }
  | { readonly kind: "and" | "or"; readonly of: readonly Expression[] };

interface Token {
  readonly kind: "word" | "text" | "operator" | "(" | ")" | "end";
  readonly value: string;
  readonly at: number;
}

/** Undefined for an empty filter. Throws `invalid` with the place and what was expected there. */
export function parseFilter(text: string, field = "filter"): Expression | undefined {
  if (text.trim() === "") return undefined;
  if (text.length > maxLength) throw invalid(field, `is ${text.length} characters long; the limit is ${maxLength}`);
  return new Parser(text, field).parse();
}

/** A fault of the filter at a place in it. */
export function filterFault(field: string, at: number, message: string): PitwallError {
  return invalid(field, `at character ${at + 1}: ${message}`);
}

class Parser {
  readonly #field: string;
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(text: string, field: string) {
    this.#field = field;
    this.#tokens = tokenize(text, field);
  }

  parse(): Expression {
    const expression = this.#either();
    const { kind, value, at } = this.#peek();
    if (kind !== "end") throw filterFault(this.#field, at, `expected AND, OR or the end, got ${show(kind, value)}`);
    return expression;
  }

  #either(): Expression {
    if (++this.#depth > maxDepth) throw filterFault(this.#field, this.#peek().at, `is nested more than ${maxDepth} deep`);
    const of = [this.#both()];
    while (this.#takeWord("OR")) of.push(this.#both());
    this.#depth--;
    const [only] = of;
    return of.length === 1 && only ? only : { kind: "or", of };
  }

  #both(): Expression {
    const of = [this.#one()];
    while (this.#takeWord("AND")) of.push(this.#one());
    const [only] = of;
    return of.length === 1 && only ? only : { kind: "and", of };
  }

  #one(): Expression {
    let isNegated = false;
    while (this.#takeWord("NOT")) isNegated = !isNegated;
    const inner = this.#peek().kind === "(" ? this.#group() : this.#comparison();
    return isNegated ? { kind: "not", of: inner } : inner;
  }

  #group(): Expression {
    const { at } = this.#take();
    const inner = this.#either();
    const end = this.#take();
    if (end.kind !== ")")
      throw filterFault(this.#field, end.at, `expected ) for the ( at character ${at + 1}, got ${show(end.kind, end.value)}`);
    return inner;
  }

  #comparison(): Comparison {
    const name = this.#take();
    if (name.kind !== "word") throw filterFault(this.#field, name.at, `expected a field, NOT or (, got ${show(name.kind, name.value)}`);
    const sign = this.#take();
    const operator = operators.find((known) => known === sign.value);
    if (sign.kind !== "operator" || !operator)
      throw filterFault(
        this.#field,
        sign.at,
        `expected one of ${operators.join(" ")} after ${name.value}, got ${show(sign.kind, sign.value)}`,
      );
    const value = this.#take();
    if (value.kind !== "word" && value.kind !== "text")
      throw filterFault(this.#field, value.at, `expected a value after ${name.value} ${operator}, got ${show(value.kind, value.value)}`);
    return { kind: "compare", field: name.value, operator, value: value.value, at: name.at };
  }

  #takeWord(word: string): boolean {
    const { kind, value } = this.#peek();
    if (kind !== "word" || value !== word) return false;
    this.#next++;
    return true;
  }

  #peek(): Token {
    const token = this.#tokens[this.#next];
    if (!token) throw new Error("a filter's tokens end without an end");
    return token;
  }

  #take(): Token {
    const token = this.#peek();
    if (token.kind !== "end") this.#next++;
    return token;
  }
}

const show = (kind: Token["kind"], value: string): string => (kind === "end" ? "the end" : JSON.stringify(value.slice(0, 40)));

/** `"…"` with \" and \\ for those two; a word is anything without spaces, quotes, parentheses and signs. */
function tokenize(text: string, field: string): Token[] {
  const pattern = /\s*(?:"((?:[^"\\]|\\["\\])*)"|(<=|>=|!=|[=<>])|([()])|([^\s"()=<>!]+))/y;
  const tokens: Token[] = [];
  while (pattern.lastIndex < text.length) {
    const from = pattern.lastIndex;
    const rest = text.slice(from);
    if (rest.trim() === "") break;
    const found = pattern.exec(text);
    const at = from + (rest.length - rest.trimStart().length);
    if (!found) {
      const what =
        text[at] === '"'
          ? 'a text that begins with " has no end, or holds \\ before other than " and \\'
          : `cannot read ${JSON.stringify(text[at])}`;
      throw filterFault(field, at, what);
    }
    const [, quoted, operator, parenthesis, word] = found;
    if (quoted !== undefined) tokens.push({ kind: "text", value: quoted.replaceAll(/\\(["\\])/g, "$1"), at });
    else if (operator !== undefined) tokens.push({ kind: "operator", value: operator, at });
    else if (parenthesis === "(" || parenthesis === ")") tokens.push({ kind: parenthesis, value: parenthesis, at });
    else tokens.push({ kind: "word", value: word ?? "", at });
  }
  return [...tokens, { kind: "end", value: "", at: text.length }];
}
