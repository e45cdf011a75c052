import { makeApiToken, openVerifier } from "@pitwall/auth";
import { expect, it } from "vitest";
import { openDoor } from "./door.ts";

/** Its keys cannot be had: whatever it is asked about a JWT ends as `unavailable`. */
const door = openDoor(openVerifier({ issuer: "http://127.0.0.1:9", audience: "pitwall" }));

it("lets a whole API token pass, for the controller to judge, and asks no issuer", async () => {
  const { text } = makeApiToken();
  expect(await door(`bearer ${text}`)).toMatchObject({ credential: text });
});

it("counts a token with another secret as somebody else's", async () => {
  const { text } = makeApiToken();
  const of = async (token: string): Promise<string> => (await door(`Bearer ${token}`)).principal;
  expect(await of(text)).toBe(await of(text));
  expect(await of(`${text.slice(0, -2)}${text.endsWith("AA") ? "BB" : "AA"}`)).not.toBe(await of(text));
});

it("refuses a damaged one without taking it for a JWT", async () => {
  const { text } = makeApiToken();
  await expect(door(`Bearer ${text}x`)).rejects.toMatchObject({ fault: "unauthenticated", reason: "TOKEN_INVALID" });
  await expect(door(`Bearer pwt_`)).rejects.toMatchObject({ fault: "unauthenticated", reason: "TOKEN_INVALID" });
});

it("has everything else verified", async () => {
  const header = Buffer.from('{"alg":"ES256","kid":"a"}').toString("base64url");
  await expect(door(`Bearer ${header}.e30.AA`)).rejects.toMatchObject({ fault: "unavailable", reason: "ISSUER_UNREACHABLE" });
  await expect(door(undefined)).rejects.toMatchObject({ reason: "TOKEN_MISSING" });
});
