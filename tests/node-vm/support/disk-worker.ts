// A thread that is the disk of a node VM: QEMU speaks NBD with it (github.com/NetworkBlockDevice/nbd, doc/proto.md) over a UNIX socket.
import { closeSync, fstatSync, openSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";
import { seededRandom } from "@pitwall/runtime";
import { WriteCache } from "./write-cache.ts";

export interface DiskWorkerData {
  readonly file: string;
  readonly socket: string;
}
/** `cut` is a power cut: `keep` is the share of unflushed blocks that had reached the medium, chosen by the seed. */
export type DiskOrder = { readonly order: "cut"; readonly keep: number; readonly seed: string } | { readonly order: "close" };
export type DiskAnswer = { readonly answer: "listening" | "closed" } | { readonly answer: "cut"; readonly lostBlocks: number };

const magic = { hello: 0x4e42444d41474943n, option: 0x49484156454f5054n, reply: 0x3e889045565a9n, request: 0x25609513, answer: 0x67446698 };
const handshake = { fixedNewstyle: 1, noZeroes: 2 };
const options = { abort: 2, info: 6, go: 7 };
const replies = { acknowledged: 1, info: 3, unsupported: 0x80000001 };
const infos = { export: 0, blockSize: 3 };
const features = { any: 1, flush: 4, fua: 8 };
const commands = { read: 0, write: 1, disconnect: 2, flush: 3 };
const fua = 1;
const errors = { io: 5, invalid: 22, full: 28 };
const mostBytes = 32 * 2 ** 20;

const { file, socket: path }: DiskWorkerData = workerData as DiskWorkerData; // disk.ts made it
const medium = openSync(file, "r+");
const sizeBytes = fstatSync(medium).size;
const cache = new WriteCache(medium);
const clients = new Set<Socket>();

const server = createServer((client) => {
  clients.add(client);
  client.on("error", () => undefined).on("close", () => clients.delete(client)); // QEMU has gone; that is told elsewhere
  void serve(client)
    .catch(() => undefined)
    .finally(() => client.destroy());
});
server.listen(path, () => tell({ answer: "listening" }));

parentPort?.on("message", (order: DiskOrder) => {
  for (const client of clients) client.destroy();
  if (order.order === "close") {
    cache.flush();
    closeSync(medium);
    server.close();
    tell({ answer: "closed" }); // whoever asked ends this thread
    return;
  }
  const random = seededRandom(order.seed);
  const lostBlocks = cache.unflushedBlocks;
  let kept = 0;
  cache.cutPower(() => random() < order.keep && ++kept > 0);
  tell({ answer: "cut", lostBlocks: lostBlocks - kept });
});

function tell(answer: DiskAnswer): void {
  parentPort?.postMessage(answer);
}

async function serve(client: Socket): Promise<void> {
  const take = taking(client);
  if (!(await greet(client, take))) return;
  for (;;) {
    const head = await take(28);
    if (head.readUInt32BE(0) !== magic.request) throw new Error("not a request");
    const [flags, command, cookie] = [head.readUInt16BE(4), head.readUInt16BE(6), head.subarray(8, 16)];
    const [offset, length] = [Number(head.readBigUInt64BE(16)), head.readUInt32BE(24)];
    if (length > mostBytes) throw new Error("too long");
    if (command === commands.disconnect) return;
    const data = command === commands.write ? await take(length) : undefined;
    const [error, result] = perform(command, offset, length, data, (flags & fua) !== 0);
    const answer = Buffer.allocUnsafe(16);
    answer.writeUInt32BE(magic.answer, 0);
    answer.writeUInt32BE(error, 4);
    cookie.copy(answer, 8);
    client.cork();
    client.write(answer);
    if (result) client.write(result);
    client.uncork();
  }
}

/** An error as NBD numbers it, or 0, and what was read. */
function perform(command: number, offset: number, length: number, data: Buffer | undefined, isForced: boolean): [number, Buffer?] {
  try {
    if (offset + length > sizeBytes) return [errors.invalid];
    if (command === commands.read) return [0, cache.read(offset, length)];
    if (command !== commands.write && command !== commands.flush) return [errors.invalid];
    if (data) cache.write(offset, data);
    if (command === commands.flush || isForced) cache.flush(); // more than a forced write asks for, which a disk may do
    return [0];
  } catch (error) {
    return [error instanceof Error && "code" in error && error.code === "ENOSPC" ? errors.full : errors.io];
  }
}

/** Whether the client goes on to use the disk; whatever name it asks for. */
async function greet(client: Socket, take: (bytes: number) => Promise<Buffer>): Promise<boolean> {
  client.write(Buffer.concat([u64(magic.hello), u64(magic.option), u16(handshake.fixedNewstyle | handshake.noZeroes)]));
  await take(4);
  for (;;) {
    const head = await take(16);
    if (head.readBigUInt64BE(0) !== magic.option) throw new Error("not an option");
    const option = head.readUInt32BE(8);
    await take(head.readUInt32BE(12));
    const reply = (type: number, data = Buffer.alloc(0)): boolean =>
      client.write(Buffer.concat([u64(magic.reply), u32(option), u32(type), u32(data.length), data]));
    if (option === options.abort) {
      reply(replies.acknowledged);
      return false;
    }
    if (option !== options.go && option !== options.info) {
      reply(replies.unsupported);
      continue;
    }
    reply(replies.info, Buffer.concat([u16(infos.export), u64(BigInt(sizeBytes)), u16(features.any | features.flush | features.fua)]));
    reply(replies.info, Buffer.concat([u16(infos.blockSize), u32(512), u32(4096), u32(mostBytes)]));
    reply(replies.acknowledged);
    if (option === options.go) return true;
  }
}

/** Gives the bytes that come, so many at a time; rejects at the end. What has come and was not taken is bounded: QEMU has 16 requests under way. */
function taking(client: Socket): (bytes: number) => Promise<Buffer> {
  let chunks: Buffer[] = [];
  let held = 0;
  let wake = (): void => undefined;
  client.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    held += chunk.length;
    wake();
  });
  client.on("close", () => wake());
  return async (bytes) => {
    while (held < bytes && !client.destroyed) await new Promise<void>((resolve) => (wake = resolve));
    if (client.destroyed) throw new Error("it closed"); // what came and was not taken yet is nothing any more: the power may have been cut
    let [count, size] = [0, 0];
    while (size < bytes) size += chunks[count++]!.length;
    const taken = Buffer.concat(chunks.slice(0, count));
    chunks = size > bytes ? [taken.subarray(bytes), ...chunks.slice(count)] : chunks.slice(count);
    held -= bytes;
    return taken.subarray(0, bytes);
  };
}

function u16(value: number): Buffer {
  const made = Buffer.alloc(2);
  made.writeUInt16BE(value);
  return made;
}

function u32(value: number): Buffer {
  const made = Buffer.alloc(4);
  made.writeUInt32BE(value);
  return made;
}

function u64(value: bigint): Buffer {
  const made = Buffer.alloc(8);
  made.writeBigUInt64BE(value);
  return made;
}
