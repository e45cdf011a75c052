// A cable between two node VMs: datagrams over UNIX sockets, one Ethernet frame each. Either end may be away.
import { rm, symlink, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2 from "ssh2";

export const ends = ["a", "b"] as const;
export type End = (typeof ends)[number];

/** Fixed, so that tests and people can name them. */
export const addresses = {
  a: { v4: "192.168.77.1", v6: "fd77::1" },
  b: { v4: "192.168.77.2", v6: "fd77::2" },
} as const satisfies Record<End, { v4: string; v6: string }>;

export const otherEnd = (end: End): End => (end === "a" ? "b" : "a");

/** Disposing it removes its folder; the machines must be gone. */
export interface Wire extends AsyncDisposable {
  /** By which root of one machine gets into the other by SSH. */
  readonly userKey: { readonly private: string; readonly public: string };
  /** What QEMU is told at one end. */
  netdev(end: End, id: string): string;
  /** From now on frames vanish on the way, and no end can tell: the way from one end, or both. */
  cut(from?: End): Promise<void>;
  /** They arrive again. */
  mend(): Promise<void>;
}

export async function layWire(): Promise<Wire> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-wire-"));
  const socketOf = (end: End): string => join(dir, `${end}.sock`);
  /** QEMU looks for the other end's socket with each frame. Behind a link that can be taken away it is not found, and the frame is dropped. */
  const wayFrom = (end: End): string => join(dir, `from-${end}`);
  const mend = async (): Promise<void> => {
    for (const end of ends) {
      await rm(wayFrom(end), { force: true });
      await symlink(socketOf(otherEnd(end)), wayFrom(end));
    }
  };
  await mend();
  return {
    userKey: ssh2.utils.generateKeyPairSync("ed25519"),
    netdev: (end, id) =>
      JSON.stringify({
        type: "dgram",
        id,
        local: { type: "unix", path: socketOf(end) },
        remote: { type: "unix", path: wayFrom(end) },
      }),
    async cut(from) {
      for (const end of from ? [from] : ends) await rm(wayFrom(end), { force: true });
    },
    mend,
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}
