// The server under test: the suite's own reference server for gRPC, and in front of it a gateway that runs alone.
// The runner of connectrpc.com/conformance starts it, asks on stdin, and is told on stdout where the gateway listens; messages are
// framed by four bytes of length. Its argument is the reference server's path.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstOutput, startLoneGateway } from "../support/children.ts";

// Of a field that comes twice the last one counts: what goes on is what came, with fields added at its end.
const requestField = { protocol: 1, httpVersion: 2, useTls: 4, serverCreds: 7 } as const; // of ServerCompatRequest
const credsField = { cert: 1, key: 2 } as const; // of TLSCreds
const responseField = { port: 2, pemCert: 3 } as const; // of ServerCompatResponse
const grpcOnCleartextHttp2 = Buffer.from([requestField.protocol << 3, 2, requestField.httpVersion << 3, 2, requestField.useTls << 3, 0]);

const [referenceServer = ""] = process.argv.slice(2);
const stopped = once(process, "SIGTERM");
const request = (await fromStdin()) ?? Buffer.alloc(0);
const upstream = spawn(referenceServer, ["-bind", "127.0.0.1", "-port", "0"], { stdio: ["pipe", "pipe", "inherit"] });
upstream.stdin.write(framed(Buffer.concat([request, grpcOnCleartextHttp2])));
const answer = (await firstOutput(upstream, unframed)) ?? Buffer.alloc(0);
const dir = await mkdtemp(join(tmpdir(), "pitwall-conformance-"));
const { flags, certificate } = await tlsFlags();
const gateway = await startLoneGateway(Number(fieldsOf(answer).get(responseField.port)), flags);
const added = [
  [responseField.port << 3],
  varint(gateway.port),
  [(responseField.pemCert << 3) | 2],
  varint(certificate.length),
  certificate,
];
process.stdout.write(framed(Buffer.concat([answer, ...added.map((bytes) => Buffer.from(bytes))])));
await stopped;
await gateway.stop();
upstream.kill("SIGTERM");
await rm(dir, { recursive: true, force: true });
process.exit();

/** With the certificate that the runner gives; without any when it asks for none. */
async function tlsFlags(): Promise<{ flags: string[]; certificate: Uint8Array }> {
  const asked = fieldsOf(request);
  if (asked.get(requestField.useTls) !== 1) return { flags: [], certificate: Buffer.alloc(0) };
  const creds = fieldsOf(bytesOf(asked.get(requestField.serverCreds)));
  const [cert, key] = [bytesOf(creds.get(credsField.cert)), bytesOf(creds.get(credsField.key))];
  await writeFile(join(dir, "cert.pem"), cert);
  await writeFile(join(dir, "key.pem"), key);
  return { flags: ["--tls-cert", join(dir, "cert.pem"), "--tls-key", join(dir, "key.pem")], certificate: cert };
}

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

/** The fields of a protobuf message; these two have numbers, and bytes with their length before them. */
function fieldsOf(message: Uint8Array): Map<number, number | Uint8Array> {
  const fields = new Map<number, number | Uint8Array>();
  let at = 0;
  const number = (): number => {
    for (let value = 0, weight = 1; ; weight *= 0x80) {
      const byte = message[at++] ?? 0;
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = number();
    const value = number();
    if ((tag & 7) === 2) fields.set(tag >> 3, message.subarray(at, (at += value)));
    else fields.set(tag >> 3, value);
  }
  return fields;
}

function bytesOf(field: number | Uint8Array | undefined): Uint8Array {
  return field instanceof Uint8Array ? field : Buffer.alloc(0);
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >> 7)];
}
