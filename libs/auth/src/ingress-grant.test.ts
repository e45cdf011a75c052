import { randomBytes } from "node:crypto";
import { expect, it } from "vitest";
import { believeIngressGrant, claimedExpiry, issueIngressGrant, type IngressGrant } from "./ingress-grant.ts";

const key = randomBytes(32);
const grant: IngressGrant = { vmId: "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c", port: 8080, subject: "ada@exämple", expiresAt: 2_000_000_000 };
const text = issueIngressGrant(key, grant);

it("is read as it was made, until it expires", () => {
  expect(text).toMatch(/^pwg_[A-Za-z0-9_-]+$/);
  expect(believeIngressGrant(key, text, grant.expiresAt - 1)).toEqual(grant);
  expect(claimedExpiry(text)).toBe(grant.expiresAt);
  expect(() => believeIngressGrant(key, text, grant.expiresAt)).toThrow("has expired");
});

it("is believed by nobody with another key, and not with any bit changed", () => {
  expect(() => believeIngressGrant(randomBytes(32), text, 0)).toThrow("is not one of this installation");
  const bytes = Buffer.from(text.slice(4), "base64url");
  for (let at = 0; at < bytes.length * 8; at++) {
    const changed = Buffer.from(bytes);
    changed[at >> 3] = (changed[at >> 3] ?? 0) ^ (1 << (at & 7));
    expect(() => believeIngressGrant(key, `pwg_${changed.toString("base64url")}`, 0)).toThrow("is not one of this installation");
  }
});

it.each([
  text.slice(1),
  `${text}=`,
  `${text.slice(0, -1)} `,
  text.toUpperCase(),
  "pwg_",
  "",
  `pwg_${"a".repeat(60)}`,
  `pwg_${"a".repeat(5_000)}`,
])("%j is none", (wrong) => expect(() => believeIngressGrant(key, wrong, 0)).toThrow(/is damaged|is not one of this installation/));
