// Who may come with a tunnel's token: the VM's own node, once, while it is waited for, at the gateway that has made it.
import { connect, type TLSSocket } from "node:tls";
import type { OpenTunnelResponse } from "@pitwall/proto/pitwall/v1/access.ts";
import { noFailpoints, silentLog } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { beforeEach, expect, it, onTestFinished } from "vitest";
import { GatewayMetrics } from "../src/metrics.ts";
import { openTunnels, type Tunnel, type Tunnels, type TunnelsParts } from "../src/tunnels/tunnels.ts";
import { makeIdentity, nodeId } from "./support/vm-behind.ts";

type Identity = Awaited<ReturnType<typeof makeIdentity>>;

const here = "127.0.0.1";
let [own, other, door, foreign]: Identity[] = [];

beforeEach(async () => {
  [own, other, door, foreign] = await Promise.all([
    makeIdentity(),
    makeIdentity("pitwall://node/00000000-0000-4000-8000-0000000000bb"),
    makeIdentity("pitwall://gateway/00000000-0000-4000-8000-0000000000aa"),
    makeIdentity(), // says the node's id, under an authority that nobody has heard of
  ]);
});

interface Door {
  readonly tunnels: Tunnels;
  /** Opens a way; `dial` is what happens between the controller's order and its answer. */
  open(dial: (token: string) => Promise<void>): Promise<Tunnel>;
}

/** A gateway whose controller, played here, lets everybody in and names the VM's node. */
async function gateway(): Promise<Door> {
  let onToken: (token: string) => Promise<void> = async () => undefined;
  const openTunnel = async ({ token = "" }: { token?: string }): Promise<OpenTunnelResponse> => {
    await onToken(token);
    return { vmId: "v", epoch: 1n, nodeId, sshHostKey: "", subject: "ada", port: 80, sessionId: "", record: false, logins: [] };
  };
  const identity = { key: own?.key, cert: own?.cert, ca: [own, other, door].map((one) => one?.cert).join("\n") };
  const parts = {
    advertise: (port: number) => `${here}:${port}`,
    identity: { tls: () => identity, onRenewed: () => undefined },
    access: () => ({ openTunnel, checkTunnels: async () => ({ lost: [], endedSessions: [], unknown: [] }) }),
    ends: { started: async () => undefined },
    ...{ staleMs: 300_000, failpoints: noFailpoints, metrics: new GatewayMetrics(), log: silentLog },
  };
  const tunnels = await openTunnels({ host: here, port: 0 }, parts as unknown as TunnelsParts); // what is not asked for here is left out
  onTestFinished(() => tunnels[Symbol.asyncDispose]());
  return {
    tunnels,
    open(dial) {
      onToken = dial;
      return tunnels.open({ credential: undefined }, "vm", { target: { $case: "tcp", value: { port: 80 } } });
    },
  };
}

/** What the gateway says to who comes with this line; `closed` when it says nothing. */
async function come(
  { port }: Tunnels,
  as: Partial<Identity> | undefined,
  token: string,
  rest = "",
): Promise<{ said: string; node: TLSSocket }> {
  const node = connect({ host: here, port, rejectUnauthorized: false, ...(as && { key: as.key, cert: as.cert }) });
  onTestFinished(() => void node.destroy());
  const closed = new Promise<string>((resolve) => node.once("close", () => resolve("closed")));
  node.on("error", () => undefined).once("secureConnect", () => node.write(`PITWALL-TUNNEL/1 ${token}${rest}\n`));
  const said = await Promise.race([new Promise<string>((resolve) => node.once("data", (data) => resolve(String(data).trim()))), closed]);
  return { said, node };
}

const unknown = "ERR the token is not known, or too old";

it("the VM's node, once: whoever comes with the token again is sent away, before and after the way is open", async () => {
  const { tunnels, open } = await gateway();
  let token = "";
  const { stream } = await open(async (given) => {
    token = given;
    expect((await come(tunnels, own, token)).said).toBe("OK");
    expect((await come(tunnels, own, token)).said).toBe(unknown);
  });
  expect((await come(tunnels, own, token)).said).toBe(unknown);
  stream.destroy();
  expect((await come(tunnels, own, token)).said).toBe(unknown);
});

it("not when it is no longer waited for", async () => {
  const { tunnels, open } = await gateway();
  let token = "";
  const refused = open(async (given) => {
    token = given;
    throw new ClientError("OpenTunnel", Status.UNAVAILABLE, "it has gone");
  });
  await expect(refused).rejects.toThrow("the controller cannot be reached right now");
  expect((await come(tunnels, own, token)).said).toBe(unknown);
});

it("not at another gateway, where it uses nothing up", async () => {
  const [one, two] = [await gateway(), await gateway()];
  const { stream } = await one.open(async (token) => {
    expect((await come(two.tunnels, own, token)).said).toBe(unknown);
    expect((await come(one.tunnels, own, token)).said).toBe("OK");
  });
  expect(stream.destroyed).toBe(false);
});

it.each<[string, () => Identity | undefined, string]>([
  ["a gateway's certificate", () => door, "ERR the peer is no node"],
  ["the certificate of an unknown authority", () => foreign, "closed"],
  ["no certificate", () => undefined, "closed"],
])("not with %s, which uses nothing up", async (_, as, words) => {
  const { tunnels, open } = await gateway();
  const { stream } = await open(async (token) => {
    expect((await come(tunnels, as(), token)).said).toBe(words);
    expect((await come(tunnels, own, token)).said).toBe("OK");
  });
  expect(stream.destroyed).toBe(false);
});

it("not another node: it reaches nobody, and is not believed that there is no way either", async () => {
  for (const rest of ["", " ERR nothing listens there"]) {
    const { tunnels, open } = await gateway();
    const hungUp = Promise.withResolvers<void>();
    const opening = open(async (token) => {
      const { node } = await come(tunnels, other, token, rest);
      node.resume().once("close", () => hungUp.resolve());
    });
    await expect(opening).rejects.toMatchObject({ fault: "unavailable", reason: "TUNNEL_FOREIGN" });
    await hungUp.promise;
  }
});

it("words that are no token are answered by none", async () => {
  const { tunnels } = await gateway();
  for (const token of ["", "x", "A".repeat(42), "A".repeat(44), "../".repeat(20)])
    expect((await come(tunnels, own, token)).said).toBe(unknown);
});
