// All of Pitwall on this machine: an issuer, a controller, a node and a gateway, in that order.
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "@pitwall/runtime";
import { NodeState, Pitwall } from "@pitwall/sdk";
import { z } from "zod";
import type { Provisioned } from "../provision/provision.ts";
import { endLeftovers, forget, remember } from "./leftovers.ts";
import { choosePorts, type Ports } from "./ports.ts";
import { startService, type Service, type ServiceName } from "./process.ts";

const tokenReply = z.object({ access_token: z.string() });
const nodeLimitMs = 20_000;

export interface StackOptions {
  readonly stateDir: string;
  readonly provisioned: Provisioned;
  /** Folders that local images may be in. */
  readonly imageRoots: readonly string[];
  /** `host:port`. */
  readonly insecureRegistries: readonly string[];
  readonly say: (text: string) => void;
  /** The usual ports where they are free (the default), or any: for stacks that others run beside. */
  readonly ports?: "usual" | "any";
  /** Added to the environment of single services. */
  readonly env?: Partial<Readonly<Record<ServiceName, Readonly<Record<string, string>>>>>;
}

/** Disposing it stops the services; VMs run on and are found again by the next start. */
export interface Stack extends AsyncDisposable {
  readonly stateDir: string;
  readonly ports: Ports;
  /** Base URL of the gateway. */
  readonly endpoint: string;
  /** `ssh-ed25519 AAAA…` */
  readonly sshHostKey: string;
  readonly services: Readonly<Record<ServiceName, Service>>;
  /** A token of the user `dev`, who is an administrator. */
  token(): Promise<string>;
  client(): Pitwall;
}

/** Starts everything and waits until the node is ready. On failure nothing is left running. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { stateDir, provisioned, say } = options;
  await mkdir(join(stateDir, "log"), { recursive: true, mode: 0o700 });
  await endLeftovers(stateDir, say);
  const ports = await choosePorts(stateDir, options.ports ?? "usual", say);
  await using stack = new AsyncDisposableStack();
  const issuer = `http://127.0.0.1:${ports.issuer}`;
  const local = (port: number): string => `127.0.0.1:${port}`;
  const images = { PITWALL_IMAGE_ROOTS: options.imageRoots.join(","), PITWALL_INSECURE_REGISTRIES: options.insecureRegistries.join(",") };
  const bootstrap = join(stateDir, "bootstrap");
  const pids: number[] = [process.pid];

  const start = async (name: ServiceName, env: Readonly<Record<string, string>>): Promise<Service> => {
    const logFile = join(stateDir, "log", `${name}.log`);
    const inherited = process.env["PITWALL_LOG_LEVEL"];
    const all = {
      PITWALL_STATE_DIR: join(stateDir, name),
      ...(inherited !== undefined && { PITWALL_LOG_LEVEL: inherited }),
      ...env,
      ...options.env?.[name],
    };
    const service = stack.use(await startService({ name, env: all, logFile }, say));
    pids.push(service.pid() ?? 0);
    await remember(stateDir, pids);
    return service;
  };

  stack.defer(() => forget(stateDir)); // runs last, when all have ended
  const issuerService = await start("issuer", { PITWALL_LISTEN: local(ports.issuer) });
  const controller = await start("controller", {
    PITWALL_LISTEN: local(ports.api),
    PITWALL_LINK_LISTEN: local(ports.link),
    PITWALL_ISSUER: issuer,
    PITWALL_ADMIN_SUBJECTS: "dev",
    PITWALL_BOOTSTRAP_DIR: bootstrap,
    ...images,
  });
  // Both join with tokens of this start, unless they have joined before.
  const [node, gateway] = await Promise.all([
    start("node", {
      PITWALL_JOIN_FILE: join(bootstrap, "node.join"),
      PITWALL_KERNEL: provisioned.kernel,
      PITWALL_MODULES_DIR: provisioned.modulesDir,
      PITWALL_POWERUNIT: provisioned.powerunit,
      PITWALL_CACHE_DIR: join(provisioned.cacheDir, "images"),
      ...images,
    }),
    start("gateway", {
      PITWALL_JOIN_FILE: join(bootstrap, "gateway.join"),
      PITWALL_LISTEN: local(ports.web),
      PITWALL_SSH_LISTEN: local(ports.ssh),
      PITWALL_TUNNEL_LISTEN: local(ports.tunnel),
      PITWALL_INGRESS_DOMAIN: "vms.localhost", // which browsers and curl take for this machine
      PITWALL_ISSUER: issuer,
    }),
  ]);

  const token = async (): Promise<string> => {
    const secret = (await readFile(join(stateDir, "issuer", "quickstart.secret"), "utf8")).trim();
    const response = await fetch(`${issuer}/token`, {
      method: "POST",
      headers: { authorization: `Basic ${Buffer.from(`pitwall-quickstart:${secret}`).toString("base64")}` },
      body: new URLSearchParams({ grant_type: "client_credentials" }),
    });
    if (!response.ok) throw new Error(`the issuer gives no token: status ${response.status}`);
    return tokenReply.parse(await response.json()).access_token;
  };
  const endpoint = `http://127.0.0.1:${ports.web}`;
  const client = (): Pitwall => new Pitwall({ endpoint, token });
  await nodeIsReady(client());
  const kept = stack.move();
  return {
    stateDir,
    ports,
    endpoint,
    sshHostKey: z.string().parse(gateway.ready["sshHostKey"]),
    services: { issuer: issuerService, controller, node, gateway },
    token,
    client,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

async function nodeIsReady(client: Pitwall): Promise<void> {
  const deadline = systemClock.monotonicMs() + nodeLimitMs;
  while (!(await client.listNodes()).some(({ state }) => state === NodeState.NODE_STATE_READY)) {
    if (systemClock.monotonicMs() > deadline) throw new Error("the node did not link to the controller; its log says why");
    await systemClock.sleep(50);
  }
}
