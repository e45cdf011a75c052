// The SSH library with its compiled cryptography, and without it, each in a process of its own: once loaded, it stays as it is.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";

const native = new URL("../src/ssh/native.ts", import.meta.url).href;
const program = `
  const { warnOfSlowCryptography } = await import(${JSON.stringify(native)});
  const words = [];
  warnOfSlowCryptography({ warn: (text) => words.push(text) });
  console.log(JSON.stringify(words));
`;
/** As on a machine that has no compiler. */
const uncompiled = `
  const Module = require("node:module");
  const load = Module._load;
  Module._load = function (name, ...rest) {
    if (name.endsWith("sshcrypto.node")) throw new Error("it was not compiled");
    return load.call(this, name, ...rest);
  };
`;

async function saidBy(...options: string[]): Promise<unknown> {
  const { stdout } = await promisify(execFile)(process.execPath, [...options, "--input-type=module", "-e", program]);
  return JSON.parse(stdout);
}

it("a gateway without the compiled cryptography says so, and one that has it says nothing", async () => {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-native-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const preload = join(dir, "uncompiled.cjs");
  await writeFile(preload, uncompiled);
  expect(await saidBy("--require", preload)).toEqual([expect.stringMatching(/compiled cryptography is missing; see docs\/ssh.md/)]);
  // It is compiled where the tests are run, which `npm ci` does.
  expect(await saidBy()).toEqual([]);
});
