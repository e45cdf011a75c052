// A web port whose tunnels lead to servers of a test, as if they listened in a VM. The peers, a controller that lets everybody in and a node,
// are played here; what is between them is the gateway's own.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { promisify } from "node:util";
import { openVerifier } from "@pitwall/auth";
import {
  OpenTunnelRequest,
  type CheckedTunnel,
  type CheckTunnelsResponse,
  type OpenTunnelResponse,
} from "@pitwall/proto/pitwall/v1/access.ts";
import { noFailpoints, silentLog, splice } from "@pitwall/runtime";
import { onTestFinished } from "vitest";
import { GatewayMetrics } from "../../src/metrics.ts";
import { openTunnels, type TunnelsParts } from "../../src/tunnels/tunnels.ts";
import type { CertificateFiles } from "../../src/web/certificate.ts";
import { openDoor } from "../../src/web/door.ts";
import type { ConsoleFiles } from "../../src/web/console-files.ts";
import { openIngress } from "../../src/web/ingress.ts";
import { defaultLimits, type WebLimits } from "../../src/web/limits.ts";
import { Principals } from "../../src/web/principals.ts";
import { openWebServer } from "../../src/web/server.ts";
import { upstreams } from "../../src/web/upstreams.ts";

const noController = { request: () => Promise.reject(new Error("no calls of the API here")) };
const here = "127.0.0.1";
/** An API token: the gateway lets it pass, and the controller of these tests lets it in. */
export const bearer = `Bearer pwt_${"0".repeat(16)}_${"a".repeat(43)}`;

/** Whose certificate {@link makeIdentity} makes. */
export const nodeId = "00000000-0000-4000-8000-0000000000aa";

/** A certificate of its own authority, good for a gateway, for a node unless `uri` says another, and for names below an ingress domain; and the files that it is in. */
export async function makeIdentity(
  uri = `pitwall://node/${nodeId}`,
): Promise<{ key: string; cert: string; ca: string; files: CertificateFiles }> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-tunnels-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const [keyFile, certFile] = [join(dir, "key"), join(dir, "certificate")];
  const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"];
  const names = ["-addext", `subjectAltName=IP:${here},DNS:*.vms.example.com,URI:${uri}`];
  await promisify(execFile)("openssl", [...kind, ...names, "-keyout", keyFile, "-out", certFile]);
  const [key, cert] = await Promise.all([keyFile, certFile].map((file) => readFile(file, "utf8")));
  return { key: key ?? "", cert: cert ?? "", ca: cert ?? "", files: { key: keyFile, certificate: certFile } };
}

/** What the controller answers; throws what it refuses with. The signal is the call's. */
export type Decide = (
  request: OpenTunnelRequest,
  signal: AbortSignal | undefined,
) => Partial<OpenTunnelResponse> | Promise<Partial<OpenTunnelResponse>>;
/** The id of a VM whose node does not dial. */
export const silentVm = "00000000-0000-4000-8000-000000000000";

interface Behind {
  readonly decide: Decide;
  readonly limits: Partial<WebLimits>;
  readonly domain: string;
  /** The console's. */
  readonly files: ConsoleFiles;
  readonly idleMs: number;
  readonly perPrincipal: number;
  readonly hasTls: boolean;
  readonly issuer: string;
}

export interface VmBehind {
  /** PEM of the authority of its certificates. */
  readonly ca: string;
  readonly port: number;
  readonly metrics: GatewayMetrics;
}

/** Port 80 of every VM, and the API of its guest, is this server; at others nothing listens. */
export async function vmBehind(
  guest: Server,
  {
    decide = () => ({}),
    limits = {},
    domain,
    files,
    idleMs = 60_000,
    perPrincipal = 500,
    hasTls = false,
    issuer = `http://${here}:1`,
  }: Partial<Behind> = {},
): Promise<VmBehind> {
  const listening = await listen(guest);
  const identity = await makeIdentity();
  const metrics = new GatewayMetrics();
  const openTunnel = async (request: OpenTunnelRequest, { signal }: { signal?: AbortSignal } = {}): Promise<OpenTunnelResponse> => {
    const answer = await decide(request, signal);
    if (request.vm !== silentVm) void dialGateway(request, listening);
    return {
      vmId: request.vm || request.host,
      epoch: 1n,
      nodeId,
      sshHostKey: "",
      subject: "ada",
      port: 0,
      sessionId: "",
      record: false,
      logins: [],
      ...answer,
    };
  };
  /** Those that would not be let in. */
  const checkTunnels = async ({ tunnels: asked = [] }: { tunnels?: readonly Partial<CheckedTunnel>[] }): Promise<CheckTunnelsResponse> => {
    const isLost = async (one: Partial<CheckedTunnel>): Promise<boolean> => {
      try {
        await decide(OpenTunnelRequest.fromPartial({ caller: one.caller, vm: one.vm ?? "", host: one.host ?? "" }), undefined);
        return false;
      } catch {
        return true;
      }
    };
    const areLost = await Promise.all(asked.map(isLost));
    return { lost: areLost.flatMap((lost, at) => (lost ? [at] : [])), endedSessions: [], unknown: [] };
  };
  async function dialGateway({ token, target }: OpenTunnelRequest, toPort: number): Promise<void> {
    const node = connectTls({ host: here, port: tunnels.port, ...identity, allowHalfOpen: true } as object);
    node.on("error", () => undefined);
    await once(node, "secureConnect");
    const isThere = target?.target?.$case === "tcp" ? [0, 80].includes(target.target.value.port) : target?.target?.$case === "guestApi";
    node.write(`PITWALL-TUNNEL/1 ${token}${isThere ? "" : " ERR nothing listens there"}\n`);
    if (isThere) {
      const inner = connect({ host: here, port: toPort, allowHalfOpen: true });
      await once(node, "readable");
      node.read("OK\n".length);
      void splice(node, inner);
    }
  }
  const session = { id: "one", carriedBy: () => undefined, cameToNothing: () => undefined, dropped: () => undefined };
  const parts = {
    advertise: (port: number) => `${here}:${port}`,
    identity: { tls: () => identity, onRenewed: () => undefined },
    access: () => ({ openTunnel, checkTunnels }),
    staleMs: 300_000,
    ends: { started: async () => undefined, begin: () => session },
    ...{ failpoints: noFailpoints, metrics, log: silentLog },
  };
  const tunnels = await openTunnels({ host: here, port: 0 }, parts as unknown as TunnelsParts); // what is not asked for here is left out
  onTestFinished(() => tunnels[Symbol.asyncDispose]());
  const door = openDoor(openVerifier({ issuer, audience: "pitwall" }));
  const principals = new Principals(perPrincipal, metrics.refuse);
  const web = await openWebServer(
    { host: here, port: 0 },
    {
      ...(hasTls && { tls: identity.files }),
      open: upstreams(door, noController, tunnels, principals),
      files,
      ingress: openIngress({ door, tunnels, issuer, domain, principals, isSecure: hasTls, idleMs }),
      ...{ corsOrigins: ["https://console.example.com"], limits: { ...defaultLimits, ...limits }, metrics, log: silentLog },
    },
  );
  onTestFinished(() => web[Symbol.asyncDispose]());
  return { port: web.port, ca: identity.ca, metrics };
}

async function listen(server: Server): Promise<number> {
  if (!server.listening) {
    server.listen(0, here);
    await once(server, "listening");
    onTestFinished(() => void server.close());
  }
  return (server.address() as AddressInfo).port; // it listens on TCP
}
