import fc from "fast-check";
import { expect, test } from "vitest";
import { signerOf } from "../mutation/signer.ts";
import { maxPageSize, openPages, pageLimit } from "./page.ts";

const pages = openPages(signerOf(Buffer.alloc(32, 1)));
const ada = { subject: "ada" };

test("a page has a size between one and the limit, and 50 unless asked", () => {
  expect(pageLimit(0)).toBe(50);
  expect(pageLimit(7)).toBe(7);
  expect(pageLimit(1_000_000)).toBe(maxPageSize);
  expect(() => pageLimit(-1)).toThrow("page_size: must not be negative");
});

test("pages, one after the other, hold everything once", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ minLength: 1 })), fc.integer({ min: 1, max: 5 }), (names, pageSize) => {
      const all = names.toSorted();
      const seen: string[] = [];
      for (let pageToken: string | undefined = ""; pageToken !== undefined;) {
        const { after, cut } = pages(ada, ["names"], { pageSize, pageToken });
        const { page, nextPageToken } = cut(
          all.filter((name) => name > after),
          (name) => name,
        );
        seen.push(...page);
        pageToken = nextPageToken === "" ? undefined : nextPageToken;
      }
      expect(seen).toEqual(all);
    }),
  );
});

test("a token is of its list and of who asked", () => {
  const { nextPageToken: pageToken } = pages(ada, ["names", "web"], { pageSize: 1, pageToken: "" }).cut(["a", "b"], (name) => name);
  expect(pages(ada, ["names", "web"], { pageSize: 9, pageToken }).after).toBe("a");
  expect(() => pages(ada, ["names", "db"], { pageSize: 1, pageToken })).toThrow("page_token: is of another list");
  expect(() => pages({ subject: "bob" }, ["names", "web"], { pageSize: 1, pageToken })).toThrow("page_token: is of another list");
  for (const made of ["a", `${pageToken}x`, "."])
    expect(() => pages(ada, ["names", "web"], { pageSize: 1, pageToken: made })).toThrow("page_token: is not a `next_page_token`");
});
