// Ways into VMs that come to nothing although their node has dialled in, and those whose node is gone without a word.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect as connectTcp, type Socket } from "node:net";
import { connect, type TLSSocket } from "node:tls";
import type { OpenTunnelResponse } from "@pitwall/proto/pitwall/v1/access.ts";
import { noFailpoints, silentLog } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { expect, it, onTestFinished } from "vitest";
import type { SessionOfTunnel } from "../src/tunnels/session-ends.ts";
import { GatewayMetrics } from "../src/metrics.ts";
import { openTunnels, type Tunnels, type TunnelsParts } from "../src/tunnels/tunnels.ts";
import { makeIdentity, nodeId } from "./support/vm-behind.ts";

const here = "127.0.0.1";

it("hangs up on a node whose controller is lost before it has answered", { timeout: 20_000 }, async () => {
  const identity = await makeIdentity();
  const hungUp = Promise.withResolvers<unknown>();
  // The peers: a controller that tells the node and then answers nobody, and that node.
  const openTunnel = async ({ token }: { token?: string }): Promise<never> => {
    const node = connect({ host: here, port: tunnels.port, ...identity });
    onTestFinished(() => void node.destroy());
    await once(node, "secureConnect");
    node.write(`PITWALL-TUNNEL/1 ${token}\n`);
    expect(String((await once(node, "data"))[0])).toBe("OK\n");
    node.resume().once("close", () => hungUp.resolve("hung up"));
    throw new ClientError("OpenTunnel", Status.UNAVAILABLE, "the controller has gone");
  };
  const session = { id: "one", carriedBy: () => undefined, cameToNothing: () => undefined, dropped: () => undefined };
  const parts = {
    advertise: (port: number) => `${here}:${port}`,
    identity: { tls: () => identity, onRenewed: () => undefined },
    access: () => ({ openTunnel }),
    ends: { started: async () => undefined, begin: () => session },
    ...{ failpoints: noFailpoints, log: silentLog },
  };
  const tunnels = await openTunnels({ host: here, port: 0 }, parts as unknown as TunnelsParts); // what is not asked for here is left out
  onTestFinished(() => tunnels[Symbol.asyncDispose]());
  const opening = tunnels.open({ credential: undefined }, "vm", { target: undefined });
  await expect(opening).rejects.toThrow("the controller cannot be reached right now");
  expect(await hungUp.promise).toBe("hung up");
});

it("begins no session for a port, and drops one that the controller refused", async () => {
  const identity = await makeIdentity();
  const said: string[] = [];
  const asked: string[] = [];
  const openTunnel = async ({ sessionId = "" }: { sessionId?: string }): Promise<never> => {
    asked.push(sessionId);
    throw new ClientError("OpenTunnel", Status.PERMISSION_DENIED, "not you");
  };
  const begin = (): SessionOfTunnel => {
    said.push("begun");
    return {
      id: "one",
      carriedBy: () => undefined,
      cameToNothing: () => said.push("came to nothing"),
      dropped: () => said.push("dropped"),
    };
  };
  const parts = {
    advertise: (port: number) => `${here}:${port}`,
    identity: { tls: () => identity, onRenewed: () => undefined },
    access: () => ({ openTunnel }),
    ends: { started: async () => undefined, begin },
    ...{ failpoints: noFailpoints, log: silentLog },
  };
  const tunnels = await openTunnels({ host: here, port: 0 }, parts as unknown as TunnelsParts); // what is not asked for here is left out
  onTestFinished(() => tunnels[Symbol.asyncDispose]());
  const nobody = { credential: undefined };
  await expect(tunnels.open(nobody, "vm", { target: { $case: "tcp", value: { port: 80 } } })).rejects.toThrow("not you");
  await expect(
    tunnels.open(nobody, "vm", { target: { $case: "ssh", value: { sessionKey: "", keptKeys: undefined, hostCertificate: "" } } }),
  ).rejects.toThrow("not you");
  expect(asked).toEqual(["", "one"]);
  expect(said).toEqual(["begun", "dropped"]);
});

/** Ways before a controller that lets everybody in, and a node that has dialled, and then does this, before the controller answers. */
async function dialled(then: (raw: Socket, node: TLSSocket) => Promise<void>): Promise<{ tunnels: Tunnels; metrics: GatewayMetrics }> {
  const identity = await makeIdentity();
  const metrics = new GatewayMetrics();
  const openTunnel = async ({ token }: { token?: string }): Promise<OpenTunnelResponse> => {
    const raw = connectTcp({ host: here, port: tunnels.port });
    const node = connect({ socket: raw, host: here, ...identity });
    node.on("error", () => undefined);
    onTestFinished(() => void node.destroy());
    await once(node, "secureConnect");
    node.write(`PITWALL-TUNNEL/1 ${token}\n`);
    expect(String((await once(node, "data"))[0])).toBe("OK\n");
    await then(raw, node);
    return { vmId: "v", epoch: 1n, nodeId, sshHostKey: "", subject: "ada", port: 80, sessionId: "", record: false, logins: [] };
  };
  const parts = {
    advertise: (port: number) => `${here}:${port}`,
    identity: { tls: () => identity, onRenewed: () => undefined },
    access: () => ({ openTunnel, checkTunnels: async () => ({ lost: [], endedSessions: [], unknown: [] }) }),
    ends: { started: async () => undefined },
    ...{ staleMs: 300_000, failpoints: noFailpoints, metrics, log: silentLog },
  };
  const tunnels = await openTunnels({ host: here, port: 0 }, parts as unknown as TunnelsParts); // what is not asked for here is left out
  onTestFinished(() => tunnels[Symbol.asyncDispose]());
  return { tunnels, metrics };
}

const toPort = (tunnels: Tunnels): ReturnType<Tunnels["open"]> =>
  tunnels.open({ credential: undefined }, "vm", { target: { $case: "tcp", value: { port: 80 } } });

it("are no ways when their node is reset before the controller has answered, and none is counted", async () => {
  const { tunnels, metrics } = await dialled(async (raw) => {
    raw.resetAndDestroy();
    await expect.poll(() => connectionsOf(tunnels.port), { timeout: 5_000 }).toEqual([]);
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve)); // the gateway hears of it
  });
  await expect(toPort(tunnels)).rejects.toMatchObject({ fault: "unavailable", reason: "TUNNEL_CLOSED" });
  expect(await metrics.registry.getSingleMetricAsString("pitwall_gateway_tunnels")).toMatch(/^pitwall_gateway_tunnels 0$/m);
});

it("probe a node that says nothing, so that one which has lost its power leaves no way behind", async () => {
  const { tunnels } = await dialled(() => Promise.resolve());
  const { stream } = await toPort(tunnels);
  // 02: a keepalive timer runs.
  await expect.poll(() => connectionsOf(tunnels.port), { timeout: 5_000 }).toEqual(["02"]);
  stream.destroy();
});

/** The timers of the established connections that were made to this port, as Linux lists them. */
async function connectionsOf(port: number): Promise<string[]> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const lines = (await readFile("/proc/net/tcp", "utf8")).split("\n").slice(1);
  return lines.flatMap((line) => {
    const [, local = "", , state, , timer = ""] = line.trim().split(/\s+/);
    return local.endsWith(`:${hex}`) && state === "01" ? [timer.slice(0, 2)] : [];
  });
}
