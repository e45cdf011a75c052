// control: the control plane against what its parts can do at all. Durable creates against pgbench on the same server; then a fleet of
// simulated nodes on one controller: what an agent costs, commands against a bare grpc-js echo server, how soon a dead or silent agent is
// noticed, whether a busy one is ever taken for dead, and how soon a controller that was killed knows its fleet again.
import { join } from "node:path";
import { openCa } from "@pitwall/controller/src/ca/ca.ts";
import { startInstallation } from "@pitwall/controller/tests/support/installation.ts";
import { installPackages } from "@pitwall/quickstart";
import { measureAgents } from "./control-agents.ts";
import { measureCreates } from "./control-create.ts";
import type { BenchOptions, Metric } from "./measure.ts";

export async function control(options: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  await installPackages({ pgbench: "postgresql" }, options.say);
  await using installation = await startInstallation();
  const ca = await openCa(join(installation.dir, "ca"));
  const creates = await measureCreates(installation, ca, options);
  return { ...creates, ...(await measureAgents(installation, ca, options)) };
}
