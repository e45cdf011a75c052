// A way into a VM that was started by a version before limits on logins: it stays closed, and the one who wanted it hears why.
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { noFailpoints, silentLog, systemClock } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { expect, it } from "vitest";
import { openTunnels } from "../src/tunnels/tunnel.ts";

/** As powerunit answers what it does not know. */
const older = new ClientError("Dial", Status.INVALID_ARGUMENT, "target: the first message must name one");

async function whyNot(target: TunnelTarget["target"]): Promise<string | undefined> {
  const machine = { report: { epoch: 1n }, dial: () => Promise.reject(older) };
  const tunnels = openTunnels({
    machines: { get: () => machine as never }, // of its report nothing else is read
    identity: { tls: () => ({ key: "", cert: "", ca: "" }) },
    ...{ clock: systemClock, failpoints: noFailpoints, log: silentLog },
  });
  const refused = await tunnels.open({ vmId: "v", epoch: 1n, target: { target }, token: "t", gatewayAddress: "127.0.0.1:1" });
  return refused?.reason;
}

it.each<NonNullable<TunnelTarget["target"]>>([
  { $case: "limitedSsh", value: { sessionKey: "", logins: ["dev"], keptKeys: undefined, hostCertificate: "" } },
  { $case: "limitedGuestApi", value: { logins: ["dev"], keptKeys: undefined } },
])("a guest that does not know $$case is to be started anew", async (target) => {
  expect(await whyNot(target)).toBe("the VM was started by a version that cannot limit whom one logs in as: start it anew");
});

it("what it says of other targets is passed on", async () => {
  expect(await whyNot({ $case: "tcp", value: { port: 1 } })).toBe(older.details);
});
