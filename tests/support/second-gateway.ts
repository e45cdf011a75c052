// Another gateway of a test's installation, beside the stack's own: it can be killed, and nobody starts it again.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { nodeArguments } from "@pitwall/runtime";
import type { TestStack } from "./stack.ts";

const main = join(import.meta.dirname, "..", "..", "services", "gateway", "src", "main.ts");

/** Disposing it ends it with SIGTERM. */
export interface SecondGateway extends AsyncDisposable {
  /** `http://…` */
  readonly endpoint: string;
  readonly sshPort: number;
  readonly pid: number;
  /** Resolves with its exit code, or the signal that killed it. */
  readonly ended: Promise<number | string>;
}

export async function startSecondGateway(
  { stack }: Pick<TestStack, "stack">,
  name: string,
  env: Readonly<Record<string, string>> = {},
): Promise<SecondGateway> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-gateway-"));
  const { join: text } = await stack.client().createJoinToken("gateway", name);
  const any = "127.0.0.1:0";
  const child = spawn(process.execPath, [...nodeArguments("gateway"), main], {
    env: {
      ...{ PATH: process.env["PATH"], PITWALL_STATE_DIR: dir, PITWALL_JOIN: text, PITWALL_NAME: name, PITWALL_LOG_LEVEL: "warn" },
      ...{
        PITWALL_ISSUER: `http://127.0.0.1:${stack.ports.issuer}`,
        PITWALL_LISTEN: any,
        PITWALL_SSH_LISTEN: any,
        PITWALL_TUNNEL_LISTEN: any,
      },
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => (said += part));
  const ended = new Promise<number | string>((resolve) => child.once("close", (code, signal) => resolve(code ?? signal ?? "")));
  for await (const line of createInterface({ input: child.stdout })) {
    const { web, ssh } = JSON.parse(line) as { web: number; ssh: number };
    child.stdout.resume();
    return {
      ...{ endpoint: `http://127.0.0.1:${web}`, sshPort: ssh, pid: child.pid ?? 0, ended },
      async [Symbol.asyncDispose]() {
        child.kill("SIGTERM");
        await ended;
        await rm(dir, { recursive: true, force: true });
      },
    };
  }
  throw new Error(`the gateway did not start: ${said}`);
}
