import { createServer } from "node:http";
import { VirtualClock } from "@pitwall/runtime";
import { exportJWK, generateKeyPair, SignJWT, type JWK } from "jose";
import { expect, onTestFinished, test } from "vitest";
import { openVerifier, type Verifier, type VerifierOptions } from "./verifier.ts";

const minuteMs = 60_000;

interface Issuer {
  readonly url: string;
  /** Requests for its keys and for its discovery document. */
  readonly asked: { keys: number; discovery: number };
  /** What it does with them: answers, says 500, hangs up, or says that it has no keys. */
  mood: "well" | "broken" | "gone" | "empty";
  keysUrl: string;
  /** Makes a key, publishes it after those before or instead of them, and signs with it. */
  rotate(kid: string, keep?: boolean): Promise<void>;
  /** A token by the latest key. */
  token(claims?: { sub?: string; kid?: string }): Promise<string>;
}

/** A small real one; tokens are good for three hours. */
async function openIssuer(clock: VirtualClock): Promise<Issuer> {
  let published: JWK[] = [];
  let signer: { key: Awaited<ReturnType<typeof generateKeyPair>>["privateKey"]; kid: string } | undefined;
  const server = createServer((request, response) => {
    issuer.asked[request.url === "/keys" ? "keys" : "discovery"]++;
    if (issuer.mood === "gone") return void request.socket.destroy();
    response.statusCode = issuer.mood === "broken" ? 500 : 200;
    const keys = { keys: issuer.mood === "empty" ? [] : published };
    response.end(JSON.stringify(request.url === "/keys" ? keys : { issuer: issuer.url, jwks_uri: issuer.keysUrl }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  const issuer: Issuer = {
    ...{ url, keysUrl: `${url}/keys`, asked: { keys: 0, discovery: 0 }, mood: "well" },
    async rotate(kid, keep = true) {
      const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
      published = [...(keep ? published : []), { ...(await exportJWK(publicKey)), kid, alg: "ES256" }];
      signer = { key: privateKey, kid };
    },
    async token({ sub = "ada", kid = signer?.kid ?? "" } = {}) {
      if (!signer) throw new Error("it has no key");
      const nowS = Math.floor(clock.wallMs() / 1000);
      const jwt = new SignJWT({ iss: url, aud: "pitwall", sub, iat: nowS, exp: nowS + 3 * 3600 });
      return `Bearer ${await jwt.setProtectedHeader({ alg: "ES256", kid, typ: "at+jwt" }).sign(signer.key)}`;
    },
  };
  await issuer.rotate("first");
  return issuer;
}

async function begin(options: Partial<VerifierOptions> = {}): Promise<{ clock: VirtualClock; issuer: Issuer; verifier: Verifier }> {
  const clock = new VirtualClock();
  const issuer = await openIssuer(clock);
  return { clock, issuer, verifier: openVerifier({ issuer: issuer.url, audience: "pitwall", clock, ...options }) };
}

const refusal = (verifier: Verifier, token: string): Promise<unknown> =>
  verifier.verify(token).then(
    () => "none",
    (error: unknown) => (error instanceof Error && "reason" in error ? error.reason : error),
  );

test("two changes of keys in a row are seen without a refusal, whether the issuer keeps the keys before or not", async () => {
  const { issuer, verifier } = await begin();
  const first = await issuer.token();
  await verifier.verify(first);
  await issuer.rotate("second");
  await verifier.verify(await issuer.token());
  await verifier.verify(first);
  await issuer.rotate("third", false);
  await verifier.verify(await issuer.token());
  expect(await refusal(verifier, first)).toBe("TOKEN_ISSUER"); // though it was good a moment ago
  expect(issuer.asked.keys).toBe(3);
});

test("a key that is taken away counts for ten minutes at most, also of tokens that were seen before", async () => {
  const { clock, issuer, verifier } = await begin();
  const token = await issuer.token();
  await verifier.verify(token);
  await issuer.rotate("second", false);
  await clock.advance(9 * minuteMs);
  await verifier.verify(token);
  await clock.advance(minuteMs);
  expect(await refusal(verifier, token)).toBe("TOKEN_ISSUER");
});

test("tokens of unknown keys have the issuer asked twice at once, and every 30 seconds thereafter", async () => {
  const { clock, issuer, verifier } = await begin();
  await verifier.verify(await issuer.token());
  const flood = async (from: number): Promise<unknown[]> => {
    const tokens = await Promise.all(Array.from({ length: 50 }, (_, at) => issuer.token({ kid: `unknown ${from + at}` })));
    const refusals: unknown[] = [];
    for (const token of tokens) refusals.push(await refusal(verifier, token)); // one after the other: together they would share an answer
    return [...new Set(refusals)];
  };
  expect(await flood(0)).toEqual(["TOKEN_ISSUER"]);
  expect(issuer.asked.keys).toBe(1 + 2);
  for (let half = 1; half <= 10; half++) {
    await clock.advance(minuteMs / 2);
    expect(await flood(half * 100)).toEqual(["TOKEN_ISSUER"]);
  }
  // Five minutes on, those that are known are asked for anew, besides.
  expect(issuer.asked.keys).toBeLessThanOrEqual(1 + 2 + 10 + 1);
  expect(issuer.asked.keys).toBeGreaterThanOrEqual(1 + 2 + 10);
  await issuer.rotate("second");
  await clock.advance(minuteMs / 2);
  await verifier.verify(await issuer.token());
});

test.each(["gone", "broken", "empty"] as const)(
  "an issuer that is %s for half an hour has its tokens believed; unknown ones wait",
  async (mood) => {
    const { clock, issuer, verifier } = await begin();
    await verifier.verify(await issuer.token());
    issuer.mood = mood;
    const asked = issuer.asked.keys + issuer.asked.discovery;
    for (let minute = 1; minute <= 30; minute++) {
      await clock.advance(minuteMs);
      await verifier.verify(await issuer.token({ sub: `somebody ${minute}` }));
      await new Promise((resolve) => setTimeout(resolve, 5)); // what is asked in the background comes to its end, mostly
    }
    expect(await refusal(verifier, await issuer.token({ kid: "unknown" }))).toBe("ISSUER_UNREACHABLE");
    await new Promise((resolve) => setTimeout(resolve, 50)); // what is asked meanwhile, nobody waits for
    const more = issuer.asked.keys + issuer.asked.discovery - asked;
    expect(more).toBeGreaterThan(3);
    expect(more).toBeLessThan(2 * 30); // with those of discovery
    issuer.mood = "well";
    await clock.advance(minuteMs);
    await issuer.rotate("second");
    await verifier.verify(await issuer.token());
  },
);

test("an issuer that is gone for longer than an hour has nobody let in, until it is back", async () => {
  const { clock, issuer, verifier } = await begin();
  const token = await issuer.token();
  await verifier.verify(token);
  issuer.mood = "gone";
  await clock.advance(59 * minuteMs);
  await verifier.verify(token);
  await clock.advance(minuteMs);
  expect(await refusal(verifier, token)).toBe("ISSUER_UNREACHABLE");
  issuer.mood = "well";
  await clock.advance(3_000);
  await verifier.verify(token);
});

test("before an issuer has ever answered, many tokens ask it once in two seconds", async () => {
  const { clock, issuer, verifier } = await begin();
  issuer.mood = "broken";
  for (let second = 0; second < 10; second++) {
    for (let at = 0; at < 20; at++) expect(await refusal(verifier, await issuer.token())).toBe("ISSUER_UNREACHABLE");
    await clock.advance(1_000);
  }
  expect(issuer.asked).toEqual({ keys: 0, discovery: 5 });
  issuer.mood = "well";
  await clock.advance(2_000);
  await verifier.verify(await issuer.token());
});

test("keys at a private address of another host than the issuer's are not fetched, unless the configuration names them", async () => {
  const { clock, issuer, verifier } = await begin();
  issuer.keysUrl = issuer.keysUrl.replace("127.0.0.1", "127.0.0.2");
  expect(await refusal(verifier, await issuer.token())).toBe("ISSUER_UNREACHABLE");
  expect(issuer.asked).toEqual({ keys: 0, discovery: 1 });
  const told = openVerifier({ issuer: issuer.url, audience: "pitwall", clock, jwksUrl: `${issuer.url}/keys` });
  await told.verify(await issuer.token());
  expect(issuer.asked).toEqual({ keys: 1, discovery: 1 });
});
