import { describe, expect, it } from "vitest";
import { parseAuditFilter } from "./filter.ts";

describe("a filter of audit entries", () => {
  it("becomes conditions with placeholders, its texts as values", () => {
    expect(parseAuditFilter("  ")).toEqual([]);
    expect(parseAuditFilter(String.raw`actor = "a\"da; drop" and object!="vm/1"  AND time >= "2026-01-01T00:00:00Z" `)).toEqual([
      { sql: "entry.actor = ?", value: 'a"da; drop' },
      { sql: "entry.object != ?", value: "vm/1" },
      { sql: "date_trunc('milliseconds', entry.time) >= ?::timestamptz", value: "2026-01-01T00:00:00.000Z" },
    ]);
  });

  it.each([
    ['detail = "x"', '"detail" is no field'],
    ['constructor = "x"', "is no field"],
    ["actor", "after actor: expected one of"],
    ["actor = ada", "after actor =: expected a text in double quotes"],
    ['actor > "a"', "actor is compared with = or !="],
    ['time > "yesterday"', "expected a time such as"],
    ['actor = "a" OR actor = "b"', "expected AND, got OR"],
    ['actor = "a" AND', '"" is no field'],
    ['actor = "a', "character 8: expected"],
    ["actor = 'a'", "character 8: expected"],
  ])("%s is refused", (filter, message) => expect(() => parseAuditFilter(filter)).toThrow(message));
});
