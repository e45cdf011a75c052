// Lists in pages: `page_size` and `page_token` of requests, `next_page_token` of answers. The token is the last name of a page.
import { invalid } from "@pitwall/runtime";

const defaultSize = 50;
export const maxPageSize = 1000;

/** How many a page holds; 0 asks for the default. Throws `invalid`. */
export function pageLimit(pageSize: number): number {
  if (pageSize < 0) throw invalid("page_size", "must not be negative");
  return Math.min(pageSize || defaultSize, maxPageSize);
}

/**
 * The page, from what was found from its beginning on: one more than the limit tells that there is a next page. `keyOf` is what the list is
 * sorted by; default: the name.
 */
export function pageOf<T extends { readonly name: string }>(found: readonly T[], limit: number): Page<T>;
export function pageOf<T>(found: readonly T[], limit: number, keyOf: (item: T) => string): Page<T>;
export function pageOf<T extends { readonly name?: string }>(
  found: readonly T[],
  limit: number,
  keyOf = (item: T) => item.name ?? "",
): Page<T> {
  const page = found.slice(0, limit);
  const last = page.at(-1);
  return { page, nextPageToken: found.length > limit && last ? keyOf(last) : "" };
}

interface Page<T> {
  readonly page: T[];
  readonly nextPageToken: string;
}
