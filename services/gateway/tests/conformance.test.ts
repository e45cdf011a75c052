// The public conformance suite for RPC servers (connectrpc.com/conformance), against the suite's reference server behind the gateway.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { provideConformance, type Conformance } from "@pitwall/quickstart";
import { beforeAll, expect, it } from "vitest";

const folder = join(import.meta.dirname, "conformance");
const run = promisify(execFile);
let suite: Conformance;
beforeAll(async () => {
  suite = await provideConformance((text) => void process.stderr.write(`${text}\n`));
}, 900_000); // the first time, it is fetched and compiled

it.each([
  ["gRPC-Web on HTTP/1.1 and HTTP/2", "grpc-web.yaml", 248],
  ["gRPC-Web with TLS", "grpc-web-tls.yaml", 248],
  ["gRPC", "grpc.yaml", 374],
])("%s: every case passes that is not known to fail", { timeout: 180_000 }, async (_, config, cases) => {
  const under = ["--", process.execPath, join(folder, "server.ts"), suite.referenceServer];
  const options = ["--mode", "server", "--conf", join(folder, config), "--known-failing", `@${join(folder, "known-failing.txt")}`];
  // It exits with 1 when a case fails; its words say which.
  const { stdout, stderr } = await run(suite.runner, [...options, ...under]).catch(
    (error: unknown) => error as { stdout: string; stderr: string },
  );
  expect(`${stdout}${stderr}`).toMatch(new RegExp(`Total cases: ${cases}\n${cases} passed, 0 failed\n$`));
});
