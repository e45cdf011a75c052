// Lists in pages: `page_size` and `page_token` of requests, `next_page_token` of answers. A token is what the last of a page is sorted by,
// signed for the list that it is of and for who asked.
import { createHash } from "node:crypto";
import { invalid } from "@pitwall/runtime";
import { z } from "zod";
import type { Signer } from "../mutation/signer.ts";
import type { Principal } from "../projects/principal.ts";

const defaultSize = 50;
export const maxPageSize = 1000;
const purpose = "page";
const payloadOf = z.tuple([z.string(), z.string()]);

/** How many a page holds; 0 asks for the default. Throws `invalid`. */
export function pageLimit(pageSize: number): number {
  if (pageSize < 0) throw invalid("page_size", "must not be negative");
  return Math.min(pageSize || defaultSize, maxPageSize);
}

interface Page<T> {
  readonly page: T[];
  readonly nextPageToken: string;
}

export interface PageAsked {
  readonly limit: number;
  /** What the last of the page before is sorted by; empty: it is the first page. */
  readonly after: string;
  /** The page, of what was found behind `after`: one more than the limit tells that there is a next page. `keyOf` is what the list is sorted by. */
  cut<T>(found: readonly T[], keyOf: (item: T) => string): Page<T>;
}

/** What of a request says which list it is, besides who asks: its method, and whatever else it is of. */
export type ListName = readonly (string | boolean)[];

/** Reads what page is asked for. Throws `invalid`, also for a token of another list. */
export type Pages = (
  { subject }: Pick<Principal, "subject">,
  list: ListName,
  request: { readonly pageSize: number; readonly pageToken: string },
) => PageAsked;

export function openPages(signer: Signer): Pages {
  return ({ subject }, list, { pageSize, pageToken }) => {
    const limit = pageLimit(pageSize);
    const scope = createHash("sha256")
      .update(JSON.stringify([subject, ...list]))
      .digest("base64url")
      .slice(0, 22);
    return {
      limit,
      after: pageToken === "" ? "" : readToken(signer, scope, pageToken),
      cut(found, keyOf) {
        const page = found.slice(0, limit);
        const last = page.at(-1);
        if (last === undefined || found.length <= limit) return { page, nextPageToken: "" };
        const payload: z.input<typeof payloadOf> = [scope, keyOf(last)];
        return { page, nextPageToken: signer.sign(purpose, Buffer.from(JSON.stringify(payload)).toString("base64url")) };
      },
    };
  };
}

function readToken(signer: Signer, scope: string, token: string): string {
  const payload = signer.verify(purpose, token);
  if (payload === undefined) throw invalid("page_token", "is not a `next_page_token` of this installation");
  const [ofScope, key] = payloadOf.parse(JSON.parse(Buffer.from(payload, "base64url").toString()));
  if (ofScope !== scope) throw invalid("page_token", "is of another list: what it is of must stay as it was");
  return key;
}
