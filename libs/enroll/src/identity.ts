// A member's identity on disk: one file, replaced as a whole.
import { X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join as joinPath } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { EnrollServiceDefinition } from "@pitwall/proto/pitwall/v1/enroll.ts";
import { backoff, hostPort, PitwallError, sleepOrAbort, systemClock, wireDeadline, writeFileAtomic, type Log } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClientFactory, ClientError } from "nice-grpc";
import { z } from "zod";
import { controllerAddress, learned, type ControllerAddress } from "./addresses.ts";
import { parseJoin, type Join } from "./join-string.ts";
import { fetchPinnedCa } from "./pinned-ca.ts";
import { makeRequest } from "./request.ts";

const callLimitMs = 10_000;
const maxWaitMs = 60 * 60_000;

const stored = z.object({
  version: z.literal(1),
  id: z.string(),
  name: z.string(),
  key: z.string(),
  certificate: z.string(),
  ca: z.string(),
  api: z.string(),
  link: z.string(),
  /** Those that were there when one of them was last heard, and a few from before. */
  controllers: z.array(controllerAddress).default([]),
});
type Stored = z.output<typeof stored>;

/** PEM, as `tls` and grpc-js take it. */
export interface TlsIdentity {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}

/** Disposing it ends the renewals. */
export interface Identity extends AsyncDisposable {
  /** UUID that the controller gave. */
  readonly id: string;
  readonly name: string;
  /** Where controllers are, as far as is known; at least one. */
  controllers(): readonly ControllerAddress[];
  /** A controller said where all of them are. Never fails: what cannot be kept on disk is kept in memory. */
  learn(controllers: readonly ControllerAddress[]): void;
  /** The current certificate; ask again for each connection. */
  tls(): TlsIdentity;
  /** Calls back after each renewal. */
  onRenewed(listener: () => void): void;
}

/** `serverNames` are the DNS names and IP addresses a gateway is reached by; empty for nodes. */
export interface IdentityOptions {
  readonly dir: string;
  readonly join: string | undefined;
  readonly name: string;
  readonly serverNames: readonly string[];
  readonly log: Log;
}

/** Reads the identity below `dir`, or joins. Throws `invalid` without either, and what the controller said when it refused. */
export async function openIdentity(options: IdentityOptions): Promise<Identity> {
  const path = joinPath(options.dir, "identity.json");
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  let current = await readIdentity(path);
  if (current && expiry(current) <= systemClock.wallMs()) {
    options.log.warn("the certificate has expired", { name: current.name });
    current = undefined;
  }
  if (!current) {
    current = await join(options);
    await writeFileAtomic(path, JSON.stringify(current));
    options.log.info("joined", { id: current.id, name: current.name });
  }
  let member: Stored = current;
  const listeners: (() => void)[] = [];
  const stop = new AbortController();
  let writing: Promise<unknown> = Promise.resolve();
  /** One write after the other, each of the latest. */
  const keep = (): Promise<void> => {
    const written = writing.then(() => writeFileAtomic(path, JSON.stringify(member)));
    writing = written.catch(() => undefined);
    return written;
  };
  const renewing = keepFresh(
    () => member,
    async ({ key, certificate }) => {
      member = { ...member, key, certificate };
      await keep();
      for (const listener of listeners) listener();
    },
    options,
    stop.signal,
  );
  return {
    id: member.id,
    name: member.name,
    controllers: () => known(member),
    learn(controllers) {
      const all = learned(controllers, member.controllers);
      if (isDeepStrictEqual(all, member.controllers)) return;
      member = { ...member, controllers: [...all] };
      void keep().catch((error: unknown) => options.log.warn("the controllers' addresses could not be written", { error }));
    },
    tls: () => ({ key: member.key, cert: member.certificate, ca: member.ca }),
    onRenewed: (listener) => listeners.push(listener),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await renewing;
      await writing;
    },
  };
}

/** The one that it joined at stays known: it may be the only one that is told of others. */
function known({ api, link, controllers }: Stored): readonly ControllerAddress[] {
  return controllers.some((one) => one.link === link) ? controllers : [...controllers, { api, link }];
}

async function readIdentity(path: string): Promise<Stored | undefined> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  return text === undefined ? undefined : stored.parse(JSON.parse(text));
}

const expiry = ({ certificate }: Stored): number => new X509Certificate(certificate).validToDate.getTime();

async function join(options: IdentityOptions): Promise<Stored> {
  if (options.join === undefined) {
    const message =
      "this host has not joined: make a join string with `pitwall join-token`, and give it in PITWALL_JOIN or PITWALL_JOIN_FILE";
    throw new PitwallError("invalid", message, { field: "join", reason: "INVALID_CONFIG" });
  }
  const { others, ...parsed } = parseJoin(options.join);
  const all = [{ api: parsed.api, link: parsed.link }, ...others];
  let failure: unknown;
  for (const at of all) {
    try {
      return { ...(await joinAt(at, parsed, options)), controllers: all };
    } catch (error) {
      if (!(error instanceof PitwallError) || error.fault !== "unavailable") throw error;
      failure = error; // it does not answer: perhaps another one does
    }
  }
  throw failure;
}

async function joinAt(
  { api, link }: ControllerAddress,
  { token, ca: fingerprint }: Pick<Join, "token" | "ca">,
  options: IdentityOptions,
): Promise<Stored> {
  const ca = await fetchPinnedCa(hostPort.parse(api), fingerprint);
  const { key, csr } = await makeRequest(options.name);
  const channel = createChannel(api, ChannelCredentials.createSsl(Buffer.from(ca)));
  try {
    const client = createClientFactory().use(wireDeadline).create(EnrollServiceDefinition, channel);
    const request = { token, name: options.name, csr, serverNames: [...options.serverNames] };
    const { id, certificate } = await client.join(request, { timeoutMs: callLimitMs });
    return { version: 1, id, name: options.name, key, certificate, ca, api, link, controllers: [] };
  } catch (cause) {
    const said = cause instanceof ClientError ? cause.details : "it did not answer";
    throw new PitwallError("unauthenticated", `the controller did not let this host join: ${said}`, { reason: "JOIN_REFUSED", cause });
  } finally {
    channel.close();
  }
}

/** Renews at two thirds of the certificate's life, and then tries until it works. */
async function keepFresh(
  current: () => Stored,
  store: (fresh: Pick<Stored, "key" | "certificate">) => Promise<void>,
  options: IdentityOptions,
  signal: AbortSignal,
): Promise<void> {
  const wait = backoff(5_000, 60_000);
  while (!signal.aborted) {
    const { validFromDate, validToDate } = new X509Certificate(current().certificate);
    const due = validFromDate.getTime() + ((validToDate.getTime() - validFromDate.getTime()) * 2) / 3;
    const ms = due - systemClock.wallMs();
    // The wall clock may jump: look at it again every hour.
    await sleepOrAbort(Math.min(Math.max(ms, 0), maxWaitMs), signal);
    if (signal.aborted) return;
    if (due > systemClock.wallMs()) continue;
    try {
      await store(await renew(current(), options));
      wait.reset();
      options.log.info("certificate renewed");
    } catch (error) {
      options.log.warn("the certificate could not be renewed", { error });
      await sleepOrAbort(5_000 + wait.nextMs(), signal);
    }
  }
}

/** Of the first controller that answers. */
async function renew(member: Stored, options: IdentityOptions): Promise<Pick<Stored, "key" | "certificate">> {
  let failure: unknown;
  for (const { link } of known(member)) {
    try {
      return await renewAt(link, member, options);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

async function renewAt(link: string, member: Stored, { serverNames }: IdentityOptions): Promise<Pick<Stored, "key" | "certificate">> {
  const { key, csr } = await makeRequest(member.name);
  const credentials = ChannelCredentials.createSsl(Buffer.from(member.ca), Buffer.from(member.key), Buffer.from(member.certificate));
  const channel = createChannel(link, credentials);
  try {
    const client = createClientFactory().use(wireDeadline).create(EnrollServiceDefinition, channel);
    const { certificate } = await client.renew({ csr, serverNames: [...serverNames] }, { timeoutMs: callLimitMs });
    return { key, certificate };
  } finally {
    channel.close();
  }
}
