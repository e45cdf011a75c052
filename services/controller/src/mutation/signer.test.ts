import fc from "fast-check";
import { expect, test } from "vitest";
import { signerOf } from "./signer.ts";

const signer = signerOf(Buffer.alloc(32, 7));

test("what was signed for a purpose is read for that purpose only, and with that key only", () => {
  fc.assert(
    fc.property(fc.string(), (payload) => {
      const token = signer.sign("page", payload);
      expect(signer.verify("page", token)).toBe(payload);
      expect(signer.verify("plan", token)).toBeUndefined();
      expect(signerOf(Buffer.alloc(32, 8)).verify("page", token)).toBeUndefined();
    }),
  );
});

test("a token with any character changed is not read", () => {
  const token = signer.sign("page", "name:web");
  for (let at = 0; at < token.length - 1; at++) {
    const changed = `${token.slice(0, at)}${token[at] === "x" ? "y" : "x"}${token.slice(at + 1)}`;
    expect(signer.verify("page", changed)).toBeUndefined();
  }
  for (const nonsense of ["", ".", "a", "a.b", token.slice(1), `${token}x`.slice(0, -3)])
    expect(signer.verify("page", nonsense)).toBeUndefined();
});
