import { makeApiToken, openVerifier } from "@pitwall/auth";
import { PitwallError } from "@pitwall/runtime";
import { describe, expect, it } from "vitest";
import { openDoor } from "./door.ts";
import { cookiesIn, cookiesOut, grantIn, ingressCaller, type IngressVisit } from "./ingress-credential.ts";

const door = openDoor(openVerifier({ issuer: "http://127.0.0.1:9", audience: "pitwall" }));
const origin = "https://web.vms.example.com";
const visit = (headers: IngressVisit["headers"], method = "GET"): IngressVisit => ({ method, headers, origins: [origin], host: "web" });
const kindOf = async (given: IngressVisit): Promise<string | undefined> => (await ingressCaller(door, given)).caller.credential?.$case;
const cookie = "a=b; __Host-pitwall-grant=pwg_x; c";

describe("who somebody is", () => {
  it("is told by an API token, which the VM does not see", async () => {
    const { text } = makeApiToken();
    expect(await ingressCaller(door, visit({ authorization: `Bearer ${text}`, cookie }))).toMatchObject({
      caller: { credential: { $case: "bearerToken", value: text } },
      isAuthorizationTheirs: false,
    });
    await expect(kindOf(visit({ authorization: "Bearer pwt_damaged" }))).rejects.toThrow("the API token is damaged");
  });

  it.each([
    ["another verifier's words", "TOKEN_ISSUER"],
    ["another audience", "TOKEN_AUDIENCE"],
  ])("is not told by a token for %s, which is the VM's", async (_, reason) => {
    const elsewhere = (): Promise<never> => Promise.reject(new PitwallError("unauthenticated", "not ours", { reason }));
    expect(await ingressCaller(elsewhere, visit({ authorization: "Bearer a.b.c" }))).toMatchObject({
      caller: { credential: { $case: "anonymous" } },
      isAuthorizationTheirs: true,
    });
    const expired = (): Promise<never> => Promise.reject(new PitwallError("unauthenticated", "late", { reason: "TOKEN_EXPIRED" }));
    await expect(ingressCaller(expired, visit({ authorization: "Bearer a.b.c" }))).rejects.toThrow("late");
  });

  it("is the VM's own business in other schemes", async () => {
    expect(await ingressCaller(door, visit({ authorization: "Basic YTpi", cookie }))).toMatchObject({
      caller: { credential: { $case: "ingressGrant", value: "pwg_x" } },
      isAuthorizationTheirs: true,
    });
  });
});

describe("a cookie counts", () => {
  const link = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
  it.each([
    ["of a program", {}, "GET", true],
    ["of the same origin", { "sec-fetch-site": "same-origin" }, "POST", true],
    ["of an address that was typed", { "sec-fetch-site": "none" }, "GET", true],
    ["of a link from elsewhere", link, "GET", true],
    ["of a form from elsewhere", link, "POST", false],
    ["of a frame of elsewhere", { ...link, "sec-fetch-dest": "iframe" }, "GET", false],
    ["of a page of another VM", { "sec-fetch-site": "same-site", "sec-fetch-mode": "cors" }, "GET", false],
    ["of another origin, where browsers say no more", { origin: "https://evil.vms.example.com" }, "POST", false],
    ["of the same origin, where browsers say no more", { origin }, "POST", true],
    ["of an origin that is hidden", { origin: "null" }, "POST", false],
  ])("%s: %j %s %s", async (_, headers, method, counts) =>
    expect(await kindOf(visit({ cookie, ...headers }, method))).toBe(counts ? "ingressGrant" : "anonymous"),
  );
});

describe("cookies", () => {
  it("of the VM go in, and the gateway's does not", () => {
    expect(cookiesIn({ cookie })).toBe("a=b; c");
    expect(cookiesIn({ cookie: "__Host-pitwall-grant=x" })).toBeUndefined();
    expect(cookiesIn({})).toBeUndefined();
  });

  it("that a VM sets are for its host alone, and never the gateway's", () => {
    expect(
      cookiesOut([
        "a=b; Domain=vms.example.com; Path=/",
        "c=d; HttpOnly",
        "__Host-pitwall-grant=x; Path=/",
        " __host-PITWALL-grant =x",
        "e=domain; domain",
        "",
      ]),
    ).toEqual(["a=b; Path=/", "c=d; HttpOnly", "e=domain", ""]);
  });
});

describe("a grant in an address", () => {
  it.each([
    ["/?pitwall-grant=pwg_x", { grant: "pwg_x", rest: "/" }],
    ["/a?b=c&pitwall-grant=pwg_x&d", { grant: "pwg_x", rest: "/a?b=c&d" }],
    ["/a?pitwall-grant=pwg_x&pitwall-grant=pwg_y", { grant: "pwg_x", rest: "/a" }],
    ["//evil.example/?pitwall-grant=pwg_x", { grant: "pwg_x", rest: "/evil.example/" }],
    ["/\\evil.example/?pitwall-grant=pwg_x", { grant: "pwg_x", rest: "/evil.example/" }],
    ["/a?b=pitwall-grant=x", undefined],
    ["/pitwall-grant=x", undefined],
  ])("%s is %j", (url, expected) => expect(grantIn(url)).toEqual(expected));
});
