// The command line of `npm run node-vm`.
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Share } from "./support/share.ts";

export const help = `Usage: npm run node-vm -- [options] [-- COMMAND…]

Starts a virtual machine that plays a production host: emulated, so it runs wherever QEMU does, and in it KVM, cgroup v2, TAP, bridges,
nftables and traffic control are real. Opens a shell in it, or runs COMMAND and ends with its exit code. One word is a line of bash,
several are a program and its arguments. The machine ends with what runs in it.

  --two             two machines, node-a and node-b, joined by a wire; the shell is in node-a: \`ssh 192.168.77.2\` goes to the other
  --wire            the same
  --mem MIB         memory of each (default: 3072)
  --cpus N          processors of each (default: 2)
  --keep-disk FILE  the data disk, /data in it, made when it is not there and kept (default: 8 GiB that go with the machine)
  --share DIR       a folder of this machine, at /share in it, writable; once more for /share1, and so on
  --json            with COMMAND: one line of JSON instead of its output
  --help

This repository is at /pitwall in it, read-only. The first start makes its file system from Debian packages, which takes minutes; later
ones take seconds. PITWALL_CACHE moves the cache.
`;

export interface NodeVmArguments {
  readonly isPair: boolean;
  readonly memMib: number;
  readonly cpus: number;
  readonly diskFile: string | undefined;
  readonly shares: readonly Share[];
  readonly json: boolean;
  readonly help: boolean;
  /** Empty: a shell. */
  readonly command: readonly string[];
}

/** Throws one sentence for a command line that makes no sense. Relative paths are of the folder the user is in. */
export function parseNodeVmArguments(args: readonly string[], cwd: string): NodeVmArguments {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      two: { type: "boolean", default: false },
      wire: { type: "boolean", default: false },
      mem: { type: "string", default: "3072" },
      cpus: { type: "string", default: "2" },
      "keep-disk": { type: "string" },
      share: { type: "string", multiple: true, default: [] },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const isPair = values.two || values.wire;
  const disk = values["keep-disk"];
  if (isPair && disk !== undefined) throw new Error("--keep-disk: two machines have a disk each; start one at a time to keep its disk");
  if (values.json && positionals.length === 0) throw new Error("--json: a shell has no JSON; name a command after --");
  return {
    isPair,
    memMib: wholeNumber("--mem", values.mem, 512),
    cpus: wholeNumber("--cpus", values.cpus, 1),
    diskFile: disk === undefined ? undefined : resolve(cwd, disk),
    shares: values.share.map((dir, index) => ({ dir: resolve(cwd, dir), at: `/share${index || ""}` })),
    json: values.json,
    help: values.help,
    command: positionals,
  };
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) throw new Error(`${name}: must be a whole number from ${least}, got ${text}`);
  return value;
}
