import { describe, expect, it } from "vitest";
import { responseHeaders } from "./headers.ts";
import { headersOut, headersOutOnOwnHost } from "./ingress-headers.ts";

describe("what a browser would keep for the whole origin", () => {
  const kept = [
    ...["nel", "report-to", "reporting-endpoints", "accept-ch", "critical-ch", "set-login", "use-as-dictionary"],
    ...["alt-svc", "clear-site-data", "strict-transport-security"],
  ];
  const headers = Object.fromEntries([...kept, "x-mine"].map((name) => [name, "1"]));

  it("does not come from a VM below the gateway's address, nor as metadata of a call", () => {
    expect(Object.keys(headersOut(headers))).toEqual(["x-mine", "content-security-policy", "x-content-type-options"]);
    expect(responseHeaders(headers)).toEqual({ "x-mine": "1" });
  });
});

describe("what a VM clears on its own host", () => {
  it.each([
    ['"cache"', '"cache"'],
    ['"cookies"', undefined],
    ['"*"', undefined],
    ["*", undefined],
    ['"cache", "cookies" ,"storage","executionContexts"', '"cache", "storage"'],
    [undefined, undefined],
  ])("%s is of that host alone: %s", (said, passed) => {
    const out = headersOutOnOwnHost(said === undefined ? {} : { "clear-site-data": said }, true);
    expect(out["clear-site-data"]).toBe(passed);
  });
});
