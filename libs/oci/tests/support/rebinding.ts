// Run in namespaces of its own, where public addresses lead to this process and the file of names is ours: pulls from registries whose names
// change their addresses. Prints for each case what became of the pull, and how many connections came to private addresses.
// Arguments: the file that is mounted as /etc/hosts, and a folder with a certificate for the names.
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { PitwallError } from "@pitwall/runtime";
import { Budget, defaultLimits, LayerStore, openImageSources, type ImageSourceOptions } from "../../src/index.ts";
import { imageOf, layerOf } from "./layout-writer.ts";
import { hastyClock } from "./patience.ts";
import { repository, startRegistry, startTokenService, type RegistryBehaviour } from "./registry-server.ts";
import { scratch } from "./scratch.ts";
import { tarOf } from "./tar-writer.ts";

const [hosts = "", dir = ""] = process.argv.slice(2);
const open = { registry: "8.8.8.8", tokens: "8.8.4.4", blobs: "9.9.9.9", silent: "1.1.1.1" };
const traps = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1"];
const certificate = readFileSync(join(dir, "ca.crt"), "utf8");
const tls = { cert: certificate, key: readFileSync(join(dir, "key.pem"), "utf8") };
const layer = (name: string) => layerOf(tarOf([{ name, content: Buffer.from(name) }]), "gzip");
const image = imageOf([layer("a"), layer("b")]);

/** What each name means from now on; what is not named is nowhere. */
function names(meanings: Readonly<Record<string, readonly string[]>>): void {
  writeFileSync(
    hosts,
    Object.entries(meanings)
      .flatMap(([name, addresses]) => addresses.map((address) => `${address} ${name}\n`))
      .join(""),
  );
}

const right = { "registry.test": [open.registry], "tokens.test": [open.tokens], "blobs.test": [open.blobs] };
let trapped = 0;

interface Case {
  readonly at: Readonly<Record<string, readonly string[]>>;
  readonly registry?: RegistryBehaviour;
  /** Called when a token is asked for, with how many were given. */
  readonly onToken?: (given: number) => void;
  readonly options?: Partial<ImageSourceOptions>;
}

async function run({ at, registry: behaviour = {}, onToken, options = {} }: Case): Promise<string> {
  names({ ...right, ...at });
  let given = 0;
  await using tokens = await startTokenService({
    ...{ address: open.tokens, tls },
    issue: () => {
      onToken?.(given);
      return `token-${given++}`;
    },
  });
  await using registry = await startRegistry(image, { ...behaviour, address: open.registry, tls });
  await using blobs = await startRegistry(image, { address: open.blobs, tls });
  await using work = await scratch();
  const sources = openImageSources({ imageRoots: [], insecureRegistries: [], certificates: certificate, clock: hastyClock(), ...options });
  await using store = await LayerStore.open({ dir: join(work.dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  const signal = AbortSignal.timeout(20_000);
  try {
    const reference = `registry.test/${repository}:v1`;
    using _ = await store.lease(reference, await sources.resolve(reference, signal), new Budget(defaultLimits), signal);
    return `right, with ${registry.seen.length} requests, ${blobs.seen.length} for blobs and ${tokens.seen.length} for tokens`;
  } catch (error) {
    if (!(error instanceof PitwallError)) throw error;
    return `${error.fault}: ${error.message}`;
  }
}

/** After its first answer the registry is somewhere else. */
const moving = (address: string): Case => ({
  at: {},
  registry: {
    fault: (path) => {
      if (path.startsWith("manifests/")) names({ ...right, "registry.test": [address] });
      return undefined;
    },
  },
});
const toBlobs = (onBlob: () => void): RegistryBehaviour => ({
  fault(path) {
    if (!path.startsWith("blobs/")) return undefined;
    onBlob();
    return { kind: "redirect", to: `https://blobs.test/v2/${repository}/${path}` };
  },
});
const challenge = 'Bearer realm="https://tokens.test/token",service="test"';
const wantsToken = (isGood: (authorization: string | undefined) => boolean): RegistryBehaviour => ({
  auth: ({ authorization }) => (isGood(authorization) ? undefined : { challenge }),
});
let isFirstToken = true;

const cases: Record<string, Case> = {
  "a public address": { at: {} },
  "a redirect and a token from public addresses": {
    at: {},
    registry: { ...toBlobs(() => undefined), ...wantsToken((authorization) => authorization !== undefined) },
  },
  "a private address": { at: { "registry.test": ["127.0.0.1"] } },
  "private addresses alone": { at: { "registry.test": ["10.1.2.3", "::1"] } },
  "127.0.0.1 after the first answer": moving("127.0.0.1"),
  "10.1.2.3 after the first answer": moving("10.1.2.3"),
  "169.254.169.254 after the first answer": moving("169.254.169.254"),
  "::1 after the first answer": moving("::1"),
  "::ffff:127.0.0.1 after the first answer": moving("::ffff:127.0.0.1"),
  "private addresses before a public one": { at: { "registry.test": ["127.0.0.1", "10.1.2.3", open.registry] } },
  "a public address where nobody answers, and a private one": { at: { "registry.test": [open.silent, "127.0.0.1"] } },
  "a redirect to a private address": { at: { "blobs.test": ["10.1.2.3"] }, registry: toBlobs(() => undefined) },
  "a redirect to a name that is private from then on": {
    at: {},
    registry: toBlobs(() => names({ ...right, "blobs.test": ["169.254.169.254"] })),
  },
  "a token service at a private address": {
    at: { "tokens.test": ["127.0.0.1"] },
    registry: wantsToken((authorization) => authorization !== undefined),
  },
  "a token service that is private for the second token": {
    at: {},
    registry: wantsToken((authorization) => {
      if (authorization !== "Bearer token-0" || !isFirstToken) return false;
      isFirstToken = false;
      return true;
    }),
    onToken: () => names({ ...right, "tokens.test": ["127.0.0.1"] }),
  },
  "a mirror at a private address": {
    at: { "mirror.test": ["10.1.2.3"] },
    options: { mirrors: new Map([["registry.test", ["mirror.test"]]]) },
  },
  "a private address that is allowed, which is no registry": {
    at: { "registry.test": ["127.0.0.1"] },
    options: { privateRegistries: ["registry.test"] },
  },
};

for (const address of traps) {
  const trap = createServer((socket) => {
    trapped++;
    socket.on("error", () => undefined).destroy();
  });
  await new Promise<void>((resolve) => trap.listen(443, address, resolve));
  trap.unref();
}
for (const [name, one] of Object.entries(cases)) {
  const before = trapped;
  const outcome = await run(one);
  process.stdout.write(`${JSON.stringify({ name, outcome, trapped: trapped - before })}\n`);
}
