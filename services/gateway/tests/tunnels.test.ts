// Ways into VMs that come to nothing although their node has dialled in.
import { once } from "node:events";
import { connect } from "node:tls";
import { noFailpoints, silentLog } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { expect, it, onTestFinished } from "vitest";
import type { SessionOfTunnel } from "../src/tunnels/session-ends.ts";
import { openTunnels, type TunnelsParts } from "../src/tunnels/tunnels.ts";
import { makeIdentity } from "./support/vm-behind.ts";

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
  await expect(tunnels.open(nobody, "vm", { target: { $case: "ssh", value: { sessionKey: "" } } })).rejects.toThrow("not you");
  expect(asked).toEqual(["", "one"]);
  expect(said).toEqual(["begun", "dropped"]);
});
