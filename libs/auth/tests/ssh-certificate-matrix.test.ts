// Certificates of all sorts, by which powerunit is judged as well (guest/powerunit/internal/sshd): two verifiers, one answer.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { believeSshCertificate } from "../src/ssh-certificate.ts";

interface Matrix {
  readonly authority: string;
  readonly principal: string;
  readonly atSeconds: number;
  readonly certificates: readonly { readonly name: string; readonly isGood: boolean; readonly blob: string }[];
}

const file = join(import.meta.dirname, "..", "..", "..", "guest", "powerunit", "internal", "sshd", "testdata", "certificates.json");
const { authority, principal, atSeconds, certificates } = JSON.parse(readFileSync(file, "utf8")) as Matrix;

it("are 60 and more, of which many are good and many are not", () => {
  expect(certificates.length).toBeGreaterThanOrEqual(60);
  expect(certificates.filter(({ isGood }) => isGood).length).toBeGreaterThanOrEqual(15);
});

it.each(certificates)("$name: $isGood", ({ isGood, blob }) => {
  const believe = (): unknown => believeSshCertificate(Buffer.from(blob, "base64"), { authority, principal, atSeconds: BigInt(atSeconds) });
  if (isGood) expect(believe()).toMatchObject({ authority });
  else expect(believe).toThrow(/^the certificate /);
});
