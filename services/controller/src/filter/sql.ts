// A filter as a condition of SQL. Values are parameters; only what the table of fields says becomes part of the statement.
import type { Comparison, Expression, Operator } from "./parse.ts";
import { filterFault } from "./parse.ts";

export type Parameter = string | number | boolean;

export interface Condition {
  readonly sql: string;
  readonly values: readonly Parameter[];
}

/** How one field compares. */
export interface Field {
  readonly operators: readonly Operator[];
  /** The condition; a string says why the value is none of this field. `key` is what stands behind the dot, empty without one. */
  condition(operator: Operator, value: string, key: string): Condition | string;
}

/** A name that ends with `.` is a family: `labels.` is for `labels.KEY`. */
export type Fields = Readonly<Record<string, Field>>;

/** Throws `invalid` that names the place in the filter. */
export function conditionOf(expression: Expression | undefined, fields: Fields, field = "filter"): Condition {
  if (!expression) return { sql: "true", values: [] };
  switch (expression.kind) {
    case "compare":
      return compare(expression, fields, field);
    case "not": {
      const { sql, values } = conditionOf(expression.of, fields, field);
      return { sql: `not (${sql})`, values };
    }
    case "and":
    case "or": {
      const parts = expression.of.map((part) => conditionOf(part, fields, field));
      return { sql: parts.map(({ sql }) => `(${sql})`).join(` ${expression.kind} `), values: parts.flatMap(({ values }) => values) };
    }
  }
}

function compare({ field: name, operator, value, at }: Comparison, fields: Fields, filter: string): Condition {
  const dot = name.indexOf(".");
  const family = dot < 0 ? name : name.slice(0, dot + 1);
  const known = Object.hasOwn(fields, name) ? fields[name] : Object.hasOwn(fields, family) ? fields[family] : undefined;
  const names = Object.keys(fields).map((each) => (each.endsWith(".") ? `${each}KEY` : each));
  if (!known) throw filterFault(filter, at, `there is no field ${JSON.stringify(name.slice(0, 80))}; there are ${names.join(", ")}`);
  if (!known.operators.includes(operator))
    throw filterFault(filter, at, `${name} compares with ${known.operators.join(" ")}, not ${operator}`);
  const condition = known.condition(operator, value, dot < 0 ? "" : name.slice(dot + 1));
  if (typeof condition === "string") throw filterFault(filter, at, `${name}: ${condition}`);
  return condition;
}

/** Text; with = and !=, `*` in a value stands for any characters. `expression` is SQL, with `parameters` of its own. */
export function textField(expression: string): Field {
  return { operators: ["=", "!="], condition: (operator, value) => matches(expression, [], operator, value) };
}

/** The same for a key of a JSON object. What lacks the key differs from every value. */
export function mapField(column: string): Field {
  return {
    operators: ["=", "!="],
    condition: (operator, value, key) => (key === "" ? "needs a key" : matches(`coalesce(${column} ->> ?, '')`, [key], operator, value)),
  };
}

function matches(expression: string, parameters: readonly Parameter[], operator: Operator, value: string): Condition {
  const not = operator === "!=" ? "not " : "";
  if (!value.includes("*")) return { sql: `${not}${expression} = ?`, values: [...parameters, value] };
  const pattern = value.replaceAll(/[\\%_]/g, "\\$&").replaceAll("*", "%");
  return { sql: `${not}${expression} like ?`, values: [...parameters, pattern] };
}

/** One of some words, each of which stands for a value of the column. */
export function wordField(column: string, words: ReadonlyMap<string, number | boolean>): Field {
  return {
    operators: ["=", "!="],
    condition(operator, value) {
      const meant = words.get(value);
      if (meant === undefined) return `must be one of ${[...words.keys()].join(", ")}, got ${JSON.stringify(value.slice(0, 40))}`;
      return { sql: `${column} ${operator === "=" ? "=" : "<>"} ?`, values: [meant] };
    },
  };
}

/** RFC 3339. A row without the time satisfies no comparison but `!=`. */
export function timeField(column: string): Field {
  return {
    operators: ["=", "!=", "<", "<=", ">", ">="],
    condition(operator, value) {
      if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/.test(value) || Number.isNaN(Date.parse(value)))
        return `must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z, got ${JSON.stringify(value.slice(0, 40))}`;
      const sign = operator === "!=" ? "is distinct from" : operator;
      return {
        sql: operator === "!=" ? `${column} ${sign} ?::timestamptz` : `coalesce(${column} ${sign} ?::timestamptz, false)`,
        values: [value],
      };
    },
  };
}
