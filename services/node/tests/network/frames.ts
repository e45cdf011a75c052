// Frames as a guest with raw sockets makes them, and a wire to send them on and to see what comes.
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The end of a TAP that a VM has, or an ear on an interface. */
export class Wire implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly seen: Buffer[] = [];
  readonly #ready = Promise.withResolvers<void>();

  private constructor(mode: "tap" | "sniff", name: string, within: readonly string[]) {
    const [program, ...args] = [...within, "perl", join(import.meta.dirname, "frames.pl"), mode, name];
    this.#child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.once("exit", (code) => this.#ready.reject(new Error(`the wire ${name} ended with ${code}`)));
    this.#ready.promise.catch(() => undefined);
    if (!this.#child.stdout) throw new Error("a wire has an output");
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      if (line === "ready") this.#ready.resolve();
      else this.seen.push(Buffer.from(line, "hex"));
    });
  }

  /** `within` is a command that runs another one, in another network namespace. */
  static async open(mode: "tap" | "sniff", name: string, within: readonly string[] = []): Promise<Wire> {
    const wire = new Wire(mode, name, within);
    await wire.#ready.promise;
    return wire;
  }

  send(...frames: readonly Buffer[]): void {
    for (const frame of frames) this.#child.stdin?.write(`${frame.toString("hex")}\n`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const gone = new Promise<void>((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.kill("SIGKILL");
    await gone;
  }
}

export const broadcast = "ff:ff:ff:ff:ff:ff";
const bytes = (...parts: readonly (number | Buffer)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === "number" ? Buffer.from([part]) : part)));
const word = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
export const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(":", ""), "hex");
const ip4Bytes = (address: string): Buffer => Buffer.from(address.split(".").map(Number));

export function ip6Bytes(address: string): Buffer {
  const [head = "", tail = ""] = address.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const [first, last] = [groups(head), groups(tail)];
  const middle = address.includes("::") ? Array.from({ length: 8 - first.length - last.length }, () => "0") : [];
  return Buffer.concat([...first, ...middle, ...last].map((group) => word(Number.parseInt(group, 16))));
}

export interface Ends {
  readonly from: string;
  readonly to: string;
}

export function ether({ from, to }: Ends, type: number, payload: Buffer): Buffer {
  const frame = bytes(macBytes(to), macBytes(from), word(type), payload);
  return Buffer.concat([frame, Buffer.alloc(Math.max(0, 60 - frame.length))]);
}

export function arp(operation: 1 | 2, sender: { mac: string; ip: string }, target: { mac: string; ip: string }): Buffer {
  const head = bytes(word(1), word(0x0800), 6, 4, word(operation));
  return bytes(head, macBytes(sender.mac), ip4Bytes(sender.ip), macBytes(target.mac), ip4Bytes(target.ip));
}

/** `options` fill whole words. */
export function ip4({ from, to }: Ends, protocol: number, payload: Buffer, options: Buffer = Buffer.alloc(0)): Buffer {
  const length = 20 + options.length;
  const header = bytes(
    0x40 + length / 4,
    0,
    word(length + payload.length),
    word(7),
    word(0),
    64,
    protocol,
    word(0),
    ip4Bytes(from),
    ip4Bytes(to),
    options,
  );
  header.writeUInt16BE(checksum(header), 10);
  return bytes(header, payload);
}

export function ip6({ from, to }: Ends, next: number, payload: Buffer, hops = 255): Buffer {
  return bytes(0x60, 0, 0, 0, word(payload.length), next, hops, ip6Bytes(from), ip6Bytes(to), payload);
}

/** The checksum is of the addresses too. */
function withPseudo(sum: Buffer, at: number, { from, to }: Ends, protocol: number): Buffer {
  const is6 = from.includes(":");
  const ends = is6 ? bytes(ip6Bytes(from), ip6Bytes(to)) : bytes(ip4Bytes(from), ip4Bytes(to));
  const pseudo = is6 ? bytes(ends, word(0), word(sum.length), 0, 0, 0, protocol) : bytes(ends, 0, protocol, word(sum.length));
  sum.writeUInt16BE(checksum(bytes(pseudo, sum)), at);
  return sum;
}

export function udp(ends: Ends, fromPort: number, toPort: number, data = Buffer.from("hello!")): Buffer {
  return withPseudo(bytes(word(fromPort), word(toPort), word(8 + data.length), word(0), data), 6, ends, 17);
}

export function tcpSyn(ends: Ends, fromPort: number, toPort: number): Buffer {
  return withPseudo(bytes(word(fromPort), word(toPort), Buffer.alloc(8), 0x50, 0x02, word(64_000), word(0), word(0)), 16, ends, 6);
}

export function echo4(): Buffer {
  const message = bytes(8, 0, word(0), word(1), word(1), Buffer.from("pitwall!"));
  message.writeUInt16BE(checksum(message), 2);
  return message;
}

/** `data` is what comes behind type, code and checksum. */
export function icmp6(ends: Ends, type: number, data: Buffer): Buffer {
  return withPseudo(bytes(type, 0, word(0), data), 2, ends, 58);
}

function checksum(data: Buffer): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += (data[at] ?? 0) * 256 + (data[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

export interface Packet {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly payload: Buffer;
}

/** Those that carry IPv4. */
export function packets4(frames: readonly Buffer[]): Packet[] {
  return frames
    .filter((frame) => frame.readUInt16BE(12) === 0x0800)
    .map((frame) => ({
      from: [...frame.subarray(26, 30)].join("."),
      to: [...frame.subarray(30, 34)].join("."),
      protocol: frame[23] ?? 0,
      payload: frame.subarray(14 + 4 * ((frame[14] ?? 0) & 15)),
    }));
}
