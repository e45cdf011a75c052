import fc from "fast-check";
import { expect, test } from "vitest";
import { maxPageSize, pageLimit, pageOf } from "./page.ts";

test("a page has a size between one and the limit, and 50 unless asked", () => {
  expect(pageLimit(0)).toBe(50);
  expect(pageLimit(7)).toBe(7);
  expect(pageLimit(1_000_000)).toBe(maxPageSize);
  expect(() => pageLimit(-1)).toThrow("page_size: must not be negative");
});

test("pages, one after the other, hold everything once", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.stringMatching(/^[a-z]{1,4}$/)), fc.integer({ min: 1, max: 5 }), (names, limit) => {
      const all = names.toSorted().map((name) => ({ name }));
      const seen: { name: string }[] = [];
      for (let token: string | undefined = ""; token !== undefined;) {
        const after: string = token;
        const { page, nextPageToken } = pageOf(
          all.filter(({ name }) => name > after),
          limit,
        );
        seen.push(...page);
        token = nextPageToken === "" ? undefined : nextPageToken;
      }
      expect(seen).toEqual(all);
    }),
  );
});
