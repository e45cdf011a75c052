// The filter of a list of audit entries: comparisons joined by AND.
import { invalid } from "@pitwall/runtime";

export interface Condition {
  /** Of a table that is called `entry`, with one placeholder. */
  readonly sql: string;
  readonly value: string;
}

const columns: Readonly<Record<string, string>> = { actor: "entry.actor", action: "entry.action", object: "entry.object" };
const operators = ["=", "!=", "<=", ">=", "<", ">"];
const maxLength = 2_000;
const token = /\s*(?:(?<word>[A-Za-z_]+)|(?<operator>!=|<=|>=|=|<|>)|(?<text>"(?:[^"\\]|\\.)*"))/y;

/** `actor = "ada" AND time > "2026-01-01T00:00:00Z"`; empty: no condition. Throws `invalid` that names the place. */
export function parseAuditFilter(filter: string): Condition[] {
  if (filter.trim() === "") return [];
  if (filter.length > maxLength) throw invalid("filter", `must be at most ${maxLength} characters`);
  const tokens = tokensOf(filter);
  const conditions: Condition[] = [];
  for (let at = 0; ; at += 4) {
    const [field, operator, text, and] = tokens.slice(at, at + 4);
    conditions.push(condition(field, operator, text));
    if (and === undefined) return conditions;
    if (and.toUpperCase() !== "AND") throw invalid("filter", `expected AND, got ${and.slice(0, 40)}`);
  }
}

function tokensOf(filter: string): string[] {
  const tokens: string[] = [];
  const end = filter.trimEnd().length;
  for (token.lastIndex = 0; token.lastIndex < end;) {
    const at = token.lastIndex;
    const match = token.exec(filter);
    if (!match) throw invalid("filter", `character ${at + 1}: expected a field, an operator, or a text in double quotes`);
    tokens.push(match[0].trim());
  }
  return tokens;
}

function condition(field = "", operator = "", text = ""): Condition {
  if (field !== "time" && !Object.hasOwn(columns, field))
    throw invalid("filter", `${JSON.stringify(field.slice(0, 40))} is no field; there are ${Object.keys(columns).join(", ")} and time`);
  if (!operators.includes(operator)) throw invalid("filter", `after ${field}: expected one of ${operators.join(" ")}`);
  if (!text.startsWith('"')) throw invalid("filter", `after ${field} ${operator}: expected a text in double quotes`);
  const value = text.slice(1, -1).replaceAll(/\\(.)/g, "$1");
  if (field === "time") {
    const time = new Date(value);
    if (!/^\d{4}-\d\d-\d\dT/.test(value) || Number.isNaN(time.getTime()))
      throw invalid("filter", `after time ${operator}: expected a time such as "2026-01-01T00:00:00Z"`);
    return { sql: `date_trunc('milliseconds', entry.time) ${operator} ?::timestamptz`, value: time.toISOString() };
  }
  if (operator !== "=" && operator !== "!=") throw invalid("filter", `${field} is compared with = or !=`);
  return { sql: `${columns[field]} ${operator} ?`, value };
}
