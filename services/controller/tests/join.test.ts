// Who is let in by a join token, and with what certificate: whatever the request asks for beside its key is left out.
import "reflect-metadata"; // @peculiar/x509 wants it and does not bring it
import { createHash, X509Certificate } from "node:crypto";
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  type Extension,
} from "@peculiar/x509";
import { makeRequest, parseJoin } from "@pitwall/enroll";
import { EnrollServiceDefinition, type JoinResponse } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { createClient } from "nice-grpc";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { startControllers, type Calls, type TestControllers } from "./support/controllers.ts";

let pitwall: TestControllers;
let root: Calls;

beforeAll(async () => {
  pitwall = await startControllers(1);
  root = await pitwall.as("root");
});
afterEach(() => void vi.restoreAllMocks());
afterAll(() => pitwall?.[Symbol.asyncDispose]());

const tokenFor = async (name: string, uses = 1): Promise<string> =>
  parseJoin((await root.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name, uses })).join).token;
const join = async (token: string, name: string, csr?: string): Promise<JoinResponse> =>
  createClient(EnrollServiceDefinition, pitwall.channel).join({ token, name, csr: csr ?? (await makeRequest(name)).csr, serverNames: [] });
const digestOf = (token: string): string => createHash("sha256").update(token).digest("hex");

describe("nobody is let in by a token", () => {
  it("that is not known, or has one character of another", async () => {
    const token = await tokenFor("unknown");
    const other = `${token.startsWith("A") ? "B" : "A"}${token.slice(1)}`;
    for (const wrong of ["", "x", other, `${token}x`, "' or 1=1 --"])
      await expect(join(wrong, "unknown")).rejects.toThrow("UNAUTHENTICATED: this join token is not known");
    await expect(join(token, "unknown")).resolves.toBeDefined();
  });

  it("that has expired", async () => {
    const token = await tokenFor("late");
    await pitwall.query("update join_token set expire_time = now() - interval '1 second' where digest = $1", [digestOf(token)]);
    await expect(join(token, "late")).rejects.toThrow("UNAUTHENTICATED: this join token has expired");
  });

  it("of another name", async () => {
    const token = await tokenFor("named");
    await expect(join(token, "other")).rejects.toThrow("INVALID_ARGUMENT: name: the join token lets in named only");
    await expect(join(token, "named")).resolves.toBeDefined();
  });

  it("that was used, also by many at once: as many as it was made for, and no more", async () => {
    for (const uses of [1, 3]) {
      const token = await tokenFor("", uses);
      const tries = await Promise.allSettled(Array.from({ length: 8 }, (_, index) => join(token, `many-${uses}-${index}`)));
      const reasons = tries.flatMap((tried) => (tried.status === "rejected" ? [String(tried.reason)] : []));
      expect(reasons).toEqual(Array(8 - uses).fill(expect.stringContaining("UNAUTHENTICATED: this join token was used already")));
      const members = await pitwall.query("select name from member where name like $1", [`many-${uses}-%`]);
      expect(members).toHaveLength(uses);
    }
  });

  it("with a name that a live node has", async () => {
    await join(await tokenFor("taken"), "taken");
    await expect(join(await tokenFor("taken"), "taken")).rejects.toThrow("ALREADY_EXISTS: name: there is a live node called taken");
  });
});

// By less than the life of whoever signed in before.
it.each([-1_800_000, 1_800_000])("a token counts by the database's clock, with a controller's %i ms off", async (offMs) => {
  const { now } = Date;
  const name = offMs < 0 ? "behind" : "ahead";
  const old = await tokenFor(`${name}-old`);
  vi.spyOn(Date, "now").mockImplementation(() => now() + offMs);
  const token = await tokenFor(name);
  const [row] = await pitwall.query("select extract(epoch from expire_time - now())::int as left_s from join_token where digest = $1", [
    digestOf(token),
  ]);
  expect(row?.["left_s"]).toBeGreaterThan(14 * 60);
  expect(row?.["left_s"]).toBeLessThanOrEqual(15 * 60);
  await expect(join(old, `${name}-old`)).resolves.toBeDefined();
  await pitwall.query("update join_token set expire_time = now() - interval '1 second' where digest = $1", [digestOf(token)]);
  await expect(join(token, name)).rejects.toThrow("this join token has expired");
  const { token: made } = await root.projects.createApiToken({ ttl: { seconds: 600n, nanos: 0 } });
  const [left] = await pitwall.query("select extract(epoch from expire_time - now())::int as left_s from api_token where id = $1", [
    made?.id,
  ]);
  expect(left?.["left_s"]).toBeGreaterThan(9 * 60);
  expect(left?.["left_s"]).toBeLessThanOrEqual(10 * 60);
});

const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const makeKeys = (): Promise<CryptoKeyPair> => crypto.subtle.generateKey(ecdsa, true, ["sign", "verify"]);

async function requestWith(extensions: Extension[], keys?: CryptoKeyPair, subject = "CN=x"): Promise<string> {
  const request = { name: subject, keys: keys ?? (await makeKeys()), signingAlgorithm: ecdsa, extensions };
  return (await Pkcs10CertificateRequestGenerator.create(request, crypto)).toString("pem");
}

it.each([
  ["to be a CA", [new BasicConstraintsExtension(true, 3, true), new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true)]],
  [
    "to be somebody else",
    [
      new SubjectAlternativeNameExtension([
        { type: "url", value: "pitwall://controller/00000000-0000-4000-8000-000000000000" },
        { type: "url", value: "pitwall://gateway/00000000-0000-4000-8000-000000000000" },
        { type: "dns", value: "controller.example.com" },
      ]),
    ],
  ],
])("a request that asks %s gets a node's certificate for a day, and nothing of that", async (what, extensions) => {
  const name = what.replaceAll(" ", "-").toLowerCase();
  const csr = await requestWith(extensions, undefined, "CN=pitwall://controller/x, O=Pitwall CA");
  const { id, certificate } = await join(await tokenFor(name), name, csr);
  const leaf = new X509Certificate(certificate);
  expect(leaf.ca).toBe(false);
  expect(leaf.subject).toBe(`CN=${id}`);
  expect(leaf.subjectAltName).toBe(`URI:pitwall://node/${id}`);
  expect(leaf.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]); // clientAuth
  expect(leaf.validToDate.getTime() - Date.now()).toBeLessThanOrEqual(24 * 3_600_000);
});

it.each<[string, () => Promise<string>, string]>([
  [
    "is signed by another key than its own",
    async () => requestWith([], { publicKey: (await makeKeys()).publicKey, privateKey: (await makeKeys()).privateKey }),
    "csr: is not signed by its own key",
  ],
  ["has a key of another curve", () => requestOf({ name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" }), "csr: must have a P-256 key"],
  [
    "has an RSA key",
    () => requestOf({ name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" }),
    "csr: must have a P-256 key",
  ],
  ["has an Ed25519 key", () => requestOf({ name: "Ed25519" }), "csr: must have a P-256 key"],
  ["is cut off", async () => (await requestWith([])).slice(0, 200), "csr: is not a PEM certificate request"],
  ["is none", async () => "", "csr: is not a PEM certificate request"],
])("a request that %s is refused, and uses nothing of the token up", async (what, make, words) => {
  const name = what.replaceAll(/[^a-z]/g, "-").slice(0, 40);
  const token = await tokenFor(`n${name}n`);
  await expect(join(token, `n${name}n`, await make())).rejects.toThrow(`INVALID_ARGUMENT: ${words}`);
  await expect(join(token, `n${name}n`)).resolves.toBeDefined();
});

async function requestOf(algorithm: RsaHashedKeyGenParams | EcKeyGenParams | { name: "Ed25519" }): Promise<string> {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  return (await Pkcs10CertificateRequestGenerator.create({ name: "CN=x", keys, signingAlgorithm: algorithm }, crypto)).toString("pem");
}
