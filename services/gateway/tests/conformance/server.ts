// The server under test: the suite's own reference server for gRPC, and in front of it a gateway that runs alone.
// The runner of connectrpc.com/conformance starts it, asks on stdin, and is told on stdout where the gateway listens; messages are
// framed by four bytes of length. Its argument is the reference server's path.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { firstOutput, startLoneGateway } from "../support/children.ts";

// Of a field that comes twice the last one counts: what goes on is what came, with fields added at its end.
const grpcOnHttp2 = Buffer.from([1 << 3, 2, 2 << 3, 2]); // protocol and http_version of ServerCompatRequest
const portTag = 2 << 3; // of ServerCompatResponse, whose first field is the host

const [referenceServer = ""] = process.argv.slice(2);
const stopped = once(process, "SIGTERM");
const request = (await fromStdin()) ?? Buffer.alloc(0);
const upstream = spawn(referenceServer, ["-bind", "127.0.0.1", "-port", "0"], { stdio: ["pipe", "pipe", "inherit"] });
upstream.stdin.write(framed(Buffer.concat([request, grpcOnHttp2])));
const answer = (await firstOutput(upstream, unframed)) ?? Buffer.alloc(0);
const gateway = await startLoneGateway(portOf(answer));
process.stdout.write(framed(Buffer.concat([answer, Buffer.from([portTag, ...varint(gateway.port)])])));
await stopped;
await gateway.stop();
upstream.kill("SIGTERM");
process.exit();

function framed(message: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  return Buffer.concat([length, message]);
}

function unframed(bytes: Buffer): Buffer | undefined {
  return bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE() ? bytes.subarray(4, 4 + bytes.readUInt32BE()) : undefined;
}

async function fromStdin(): Promise<Buffer | undefined> {
  let read = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    read = Buffer.concat([read, chunk as Buffer]); // no encoding is set
    const message = unframed(read);
    if (message) return message;
  }
  return undefined;
}

function portOf(response: Buffer): number {
  const hostLength = response[1] ?? 0;
  if (response[2 + hostLength] !== portTag) throw new Error(`the reference server answered ${response.toString("hex")}`);
  const end = response.findIndex((byte, at) => at > 2 + hostLength && byte < 0x80);
  return response.subarray(3 + hostLength, end + 1).reduceRight((port, byte) => port * 0x80 + (byte & 0x7f), 0);
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >> 7)];
}
