// The SSH port of a gateway that stops, which has time yet for what is under way at its web port.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { silentLog } from "@pitwall/runtime";
import { expect, it, onTestFinished } from "vitest";
import { readGatewayConfig, sshLimits } from "../src/config.ts";
import { GatewayMetrics } from "../src/metrics.ts";
import { makeKeyPair } from "../src/ssh/host-key.ts";
import { openSshServer, type SshParts } from "../src/ssh/server.ts";
import { ownOffences } from "../src/workers/messages.ts";

it("takes no more connections, and those that are there go on until it is closed", async () => {
  const limits = sshLimits(readGatewayConfig({ PITWALL_STATE_DIR: "/nowhere", PITWALL_ISSUER: "http://127.0.0.1:9" }));
  const parts = { hostKey: makeKeyPair(), limits, metrics: new GatewayMetrics(), offences: ownOffences, log: silentLog };
  const ssh = await openSshServer({ host: "127.0.0.1", port: 0 }, parts as unknown as SshParts); // what nobody who is not let in reaches is left out
  const client = (): Socket => connect(ssh.port, "127.0.0.1");
  const first = client();
  onTestFinished(() => void first.destroy());
  expect(String((await once(first, "data"))[0])).toMatch(/^SSH-2\.0-/);
  ssh.stop();
  const [refused] = (await once(client(), "error")) as [NodeJS.ErrnoException];
  expect(refused.code).toBe("ECONNREFUSED");
  expect(first.closed || first.readableEnded).toBe(false);
  const ended = once(first, "close");
  await ssh[Symbol.asyncDispose]();
  await ended;
});
