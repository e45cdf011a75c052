import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseFilter, type Expression } from "./parse.ts";
import { conditionOf, mapField, textField, timeField, wordField } from "./sql.ts";

const fields = {
  name: textField("vm.name"),
  phase: wordField("phase", new Map([["RUNNING", 5]])),
  "labels.": mapField("labels"),
  create_time: timeField("create_time"),
};
const sql = (text: string): { sql: string; values: readonly unknown[] } => conditionOf(parseFilter(text), fields);

describe("a filter", () => {
  it("that is empty is true", () => expect(sql("  ")).toEqual({ sql: "true", values: [] }));

  it("binds NOT before AND before OR, and parentheses before all", () => {
    expect(sql("phase = RUNNING OR NOT name = a AND labels.env = prod")).toEqual({
      sql: "(phase = ?) or ((not (vm.name = ?)) and (coalesce(labels ->> ?, '') = ?))",
      values: [5, "a", "env", "prod"],
    });
    expect(sql("(phase = RUNNING OR name = a) AND NOT NOT name != b").sql).toBe("((phase = ?) or (vm.name = ?)) and (not vm.name = ?)");
  });

  it("takes * for any characters, and the database's own wildcards as they are", () => {
    expect(sql('name = "web*"')).toEqual({ sql: "vm.name like ?", values: ["web%"] });
    expect(sql('name != "50%_*"')).toEqual({ sql: "not vm.name like ?", values: ["50\\%\\_%"] });
  });

  it("takes texts with quotes and backslashes", () => {
    expect(sql(String.raw`labels.a.b/c = "say \"hi\" \\"`).values).toEqual(["a.b/c", String.raw`say "hi" \ `.trim()]);
  });

  it("compares times", () => {
    expect(sql("create_time >= 2026-01-31T12:00:00Z")).toEqual({
      sql: "coalesce(create_time >= ?::timestamptz, false)",
      values: ["2026-01-31T12:00:00Z"],
    });
  });

  it.each([
    ["name", "filter: at character 5: expected one of = != < <= > >= after name, got the end"],
    ["name = ", "filter: at character 8: expected a value after name =, got the end"],
    ["name = a b", 'filter: at character 10: expected AND, OR or the end, got "b"'],
    ["(name = a", "filter: at character 10: expected ) for the ( at character 1, got the end"],
    ["= a", 'filter: at character 1: expected a field, NOT or (, got "="'],
    ["colour = red", 'filter: at character 1: there is no field "colour"; there are name, phase, labels.KEY, create_time'],
    ["name = a AND name < b", "filter: at character 14: name compares with = !=, not <"],
    ["phase = UP", 'filter: at character 1: phase: must be one of RUNNING, got "UP"'],
    ["labels. = x", "filter: at character 1: labels.: needs a key"],
    ["create_time > soon", 'filter: at character 1: create_time: must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z, got "soon"'],
    ['name = "a', 'filter: at character 8: a text that begins with " has no end, or holds \\ before other than " and \\'],
    ["name = !", 'filter: at character 8: cannot read "!"'],
    ["a".repeat(2001), "filter: is 2001 characters long; the limit is 2000"],
    [`${"(".repeat(40)}name = a${")".repeat(40)}`, "filter: at character 33: is nested more than 32 deep"],
  ])("%s is refused where it is wrong", (text, message) => {
    expect(() => sql(text)).toThrow(message);
  });
});

it("whatever is written, a filter is read as it was meant, and nothing of a value becomes SQL", () => {
  const anyValue = fc.string({ maxLength: 12 }).filter((text) => !text.includes("*"));
  const anyExpression = fc.letrec<{ node: Expression }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 4 },
      anyValue.map((value): Expression => ({ kind: "compare", field: "name", operator: "=", value, at: 0 })),
      tie("node").map((of): Expression => ({ kind: "not", of })),
      fc
        .tuple(fc.constantFrom("and" as const, "or" as const), fc.array(tie("node"), { minLength: 2, maxLength: 3 }))
        .map(([kind, of]): Expression => ({ kind, of })),
    ),
  })).node;
  const write = (expression: Expression): string => {
    switch (expression.kind) {
      case "compare":
        return `name = "${expression.value.replaceAll(/["\\]/g, "\\$&")}"`;
      case "not":
        return `NOT (${write(expression.of)})`;
      default:
        return expression.of.map((part) => `(${write(part)})`).join(` ${expression.kind.toUpperCase()} `);
    }
  };
  fc.assert(
    fc.property(anyExpression, (expression) => {
      const condition = sql(write(expression));
      expect(condition).toEqual(conditionOf(expression, fields));
      expect(condition.sql).toMatch(/^(?:[ ()?=.]|vm|name|not|and|or)*$/);
    }),
  );
});
