// The command as people start it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const bin = join(import.meta.dirname, "..", "bin", "pitwall.mjs");
const config = mkdtempSync(join(tmpdir(), "pitwall-cli-"));
afterAll(() => rmSync(config, { recursive: true, force: true }));

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function pitwall(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const own = { PATH: process.env["PATH"], HOME: config, XDG_CONFIG_HOME: config };
  const child = spawn(process.execPath, [bin, ...args], { env: { ...own, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, out, err };
}

test("help is data", async () => {
  const { code, out, err } = await pitwall(["--help"]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(out).toContain("run             make a VM of an image");
});

test("a service's help names flag, variable and default", async () => {
  const { out } = await pitwall(["node", "--help"]);
  expect(out.replaceAll(/\s+/g, " ")).toContain("--driver <driver> auto, firecracker, qemu or sim [PITWALL_DRIVER; default: auto]");
});

test.each([
  { args: ["lss"], says: "error: unknown command 'lss'\n(Did you mean ls?)" },
  { args: ["run"], says: "error: missing required argument 'image'" },
  { args: ["run", "x", "--memory", "lots"], says: "Expected a size such as 512Mi or 4Gi." },
  { args: ["wait", "web", "--for", "sleeping"], says: "Allowed choices are running, paused, suspended, stopped, gone." },
  { args: ["ls", "--endpoint", "no where"], says: 'error: "no where" is no address of a gateway' },
])("$args is a command line that makes no sense: exit code 2", async ({ args, says }) => {
  const { code, out, err } = await pitwall(args);
  expect(err).toContain(says);
  expect({ code, out }).toEqual({ code: 2, out: "" });
});

test("who is not signed in is told how to", async () => {
  const { code, err } = await pitwall(["ls"]);
  expect(err).toBe("error: no gateway is known yet: sign in with `pitwall login URL`, or set PITWALL_ENDPOINT and PITWALL_TOKEN\n");
  expect(code).toBe(1);
});

test("a gateway that does not answer is named", async () => {
  const { code, err } = await pitwall(["ssh", "web"], { PITWALL_ENDPOINT: "127.0.0.1:9", PITWALL_TOKEN: "x" });
  expect(err).toContain("no gateway answers at http://127.0.0.1:9");
  expect(code).toBe(1);
});

test("a service that cannot start passes its exit code on", async () => {
  const { code, err } = await pitwall(["issuer", "--listen", "0.0.0.0:0", "--state-dir", join(config, "issuer")]);
  expect(err).toContain("error: configuration: PITWALL_LISTEN: must be a loopback address");
  expect(code).toBe(2);
});
