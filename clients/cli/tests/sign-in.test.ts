// Sign-in and renewal against a real issuer.
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { openAccountStore, type AccountStore } from "../src/account/account-store.ts";
import { withAccount, type Account } from "../src/account/credentials.ts";
import { signIn } from "../src/account/oidc.ts";
import { enterCode, startIssuer, type RunningIssuer } from "./support/issuer.ts";

const endpoint = "http://127.0.0.1:8080";
const clientId = "pitwall-cli";
const never = new AbortController().signal;
let scratch = "";
let folder = "";
let issuer: RunningIssuer;
/** Both wait for 5 s, as the protocol has it, so they begin together. */
let account: Account;
let refusal: Promise<unknown>;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "pitwall-cli-"));
  issuer = await startIssuer(join(scratch, "issuer"));
  refusal = answered("refuse").catch((error: unknown) => error);
  account = await answered({ user: "ada" });
});
afterAll(async () => {
  await issuer[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});
beforeEach(async () => {
  folder = await mkdtemp(join(scratch, "config-"));
});

const openStore = (): AccountStore => openAccountStore({ XDG_CONFIG_HOME: folder }, never);

async function answered(answer: { readonly user: string } | "refuse"): Promise<Account> {
  const pages: Promise<void>[] = [];
  const result = await signIn({ issuer: issuer.url, clientId }, ({ url, code }) => void pages.push(enterCode(url, code, answer)), never);
  await Promise.all(pages);
  return result;
}

function subjectOf(token: string): unknown {
  const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
  return Reflect.get(Object(claims), "sub");
}

async function expire(store: AccountStore): Promise<void> {
  await store.change(({ accounts, ...rest }) => {
    const old = Object.entries(accounts).map(([name, kept]) => [name, { ...kept, expiresMs: 0 }] as const);
    return { ...rest, accounts: Object.fromEntries(old) };
  });
}

test("a code that is entered in a browser signs in", () => {
  expect(subjectOf(account.accessToken)).toBe("ada");
  expect(account.refreshToken).toBeTypeOf("string");
  expect(account.expiresMs).toBeGreaterThan(Date.now());
});

test("a sign-in that is refused in the browser says so", async () => {
  expect(await refusal).toMatchObject({ message: "the sign-in was refused in the browser" });
});

test("what a sign-in leaves is for its owner's eyes only", async () => {
  await openStore().change((before) => withAccount(before, endpoint, account));
  const file = join(folder, "pitwall", "credentials.json");
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await stat(join(folder, "pitwall"))).mode & 0o777).toBe(0o700);
  expect(await readFile(file, "utf8")).toContain(account.accessToken);
});

test("an expired token is renewed once, however many ask for it", async () => {
  const store = openStore();
  await store.change((before) => withAccount(before, endpoint, account));
  await expire(store);
  const tokens = await Promise.all(Array.from({ length: 6 }, () => openStore().token(endpoint)));
  expect(new Set(tokens).size).toBe(1);
  expect(tokens[0]).not.toBe(account.accessToken);
  const { accounts } = await store.read();
  expect(accounts[endpoint]?.refreshToken).not.toBe(account.refreshToken); // the issuer takes each once
  await expire(store);
  expect(subjectOf(await store.token(endpoint))).toBe("ada");
});

test("a sign-in that the issuer has ended says to sign in again", async () => {
  const store = openStore();
  await store.change((before) => withAccount(before, endpoint, { ...account, refreshToken: "ended", expiresMs: 0 }));
  await expect(store.token(endpoint)).rejects.toThrow("your sign-in has ended: sign in again with `pitwall login`");
});

test("a token is never sent where its owner did not sign in", async () => {
  const store = openStore();
  await store.change((before) => withAccount(before, endpoint, account));
  await expect(store.token("https://elsewhere.example")).rejects.toThrow("you are not signed in to https://elsewhere.example");
});

test("an issuer without TLS is taken on this machine only", async () => {
  const present = (): void => undefined;
  await expect(signIn({ issuer: "http://sso.example", clientId }, present, never)).rejects.toThrow(
    "the issuer http://sso.example is not encrypted",
  );
  await expect(signIn({ issuer: "file:///etc", clientId }, present, never)).rejects.toThrow("an issuer that is no address");
  await expect(signIn({ issuer: "http://127.0.0.1:9", clientId }, present, never)).rejects.toThrow(
    "does not answer as an OIDC issuer does",
  );
});
