import { makeApiToken, openVerifier } from "@pitwall/auth";
import { PitwallError } from "@pitwall/runtime";
import { describe, expect, it } from "vitest";
import { openDoor } from "./door.ts";
import { cookiesIn, cookiesOut, grantIn, ingressCaller, type IngressVisit } from "./ingress-credential.ts";

const issuer = "http://127.0.0.1:9";
const door = openDoor(openVerifier({ issuer, audience: "pitwall" }));
const origin = "https://web.vms.example.com";
const visit = (headers: IngressVisit["headers"], method = "GET"): IngressVisit => ({
  ...{ method, headers, issuer },
  origins: [origin],
  host: "web",
  address: "192.0.2.1",
});
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

  it("is not told by a token of another issuer, which is the VM's, and by one of Pitwall's only when it is good", async () => {
    const part = (claims: unknown): string => Buffer.from(JSON.stringify(claims)).toString("base64url");
    const of = (iss: string): string => `Bearer ${part({ alg: "ES256" })}.${part({ iss })}.c2ln`;
    expect(await ingressCaller(door, visit({ authorization: of("https://else.example") }))).toMatchObject({
      caller: { credential: { $case: "anonymous" } },
      isAuthorizationTheirs: true,
    });
    const late = (): Promise<never> => Promise.reject(new PitwallError("unauthenticated", "late"));
    await expect(ingressCaller(late, visit({ authorization: of(issuer), cookie }))).rejects.toThrow("late");
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
    ["of the same origin, which is hidden", { origin: "null", "sec-fetch-site": "same-origin" }, "POST", true],
    ["of another VM's, which is hidden", { origin: "null", "sec-fetch-site": "same-site" }, "POST", false],
    ["of a WebSocket of the same origin", { origin, upgrade: "websocket", "sec-fetch-site": "same-origin" }, "GET", true],
    ["of a WebSocket of a hidden origin", { origin: "null", upgrade: "websocket", "sec-fetch-site": "same-origin" }, "GET", false],
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
