// Ways into VMs that come to nothing although their node has dialled in.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { promisify } from "node:util";
import { noFailpoints, silentLog } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { expect, it, onTestFinished } from "vitest";
import { openTunnels, type TunnelsParts } from "../src/tunnels/tunnels.ts";

const here = "127.0.0.1";

/** A certificate of its own authority, good for a gateway and for a node. */
async function makeIdentity(): Promise<{ key: string; cert: string; ca: string }> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-tunnels-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const [keyFile, certFile] = [join(dir, "key"), join(dir, "certificate")];
  const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test"];
  const names = ["-addext", `subjectAltName=IP:${here},URI:pitwall://node/one`];
  await promisify(execFile)("openssl", [...kind, ...names, "-keyout", keyFile, "-out", certFile]);
  const [key, cert] = await Promise.all([keyFile, certFile].map((file) => readFile(file, "utf8")));
  return { key: key ?? "", cert: cert ?? "", ca: cert ?? "" };
}

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
  const session = { id: "one", carriedBy: () => undefined, cameToNothing: () => undefined };
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
