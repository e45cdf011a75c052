// One agent for the network of a host: two would take each other's TAPs and rules away.
import { mkdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { lockState } from "../host/state-lock.ts";

const root = "/run/pitwall";

/** Of this network namespace. Throws `state` when somebody looks after it already. */
export async function lockNetwork(): Promise<AsyncDisposable> {
  const [namespace] = /\d+/.exec(await readlink("/proc/self/ns/net")) ?? ["0"];
  const dir = join(root, `network-${namespace}`);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return lockState(dir, "looks after this host's network: stop it first; it makes what is missing by itself when it starts");
}
