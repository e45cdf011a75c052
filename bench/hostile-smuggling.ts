// Requests of HTTP/1.1 that two servers could read differently, each with a second one behind it that must never be answered.
import { once } from "node:events";
import { connect } from "node:net";

const head = "host: a\r\ncontent-type: application/grpc-web\r\n";
const second = `GET /.well-known/pitwall HTTP/1.1\r\n${head}\r\n`;
const post = (lines: string, body: string): string => `POST /bench.Bytes/One HTTP/1.1\r\n${head}${lines}\r\n${body}${second}`;
const limitMs = 5_000;

const requests: Readonly<Record<string, string>> = {
  "a length and chunks": post("content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
  "chunks and a length": post("transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\n"),
  "two lengths": post("content-length: 4\r\ncontent-length: 5\r\n", "body"),
  "two lengths in one": post("content-length: 4, 5\r\n", "body"),
  "a length with a sign": post("content-length: +4\r\n", "body"),
  "a length in hexadecimal": post("content-length: 0x4\r\n", "body"),
  "a length below nothing": post("content-length: -1\r\n", ""),
  "a length of nothing said": post("content-length: \r\n", "body"),
  "a length in two words": post("content-length: 4 4\r\n", "body"),
  "a space before a colon": post("content-length : 4\r\n", "body"),
  "a space before the colon of chunks": post("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
  "a tab before a colon": post("transfer-encoding\t: chunked\r\n", "0\r\n\r\n"),
  "an unknown encoding": post("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
  "chunks that are not last": post("transfer-encoding: chunked, x\r\n", "0\r\n\r\n"),
  "chunks twice": post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n"),
  "chunks in quotes": post('transfer-encoding: "chunked"\r\n', "0\r\n\r\n"),
  "a vertical tab before chunks": post("transfer-encoding: \u000bchunked\r\n", "0\r\n\r\n"),
  "a bare line feed": post("x: y\nz: w\r\n", ""),
  "a bare carriage return": post("x: y\rz: w\r\n", ""),
  "a zero in a header": post("x: \0\r\n", ""),
  "a header without a name": post(": y\r\n", ""),
  "a header without a colon": post("transfer-encoding chunked\r\n", ""),
  "a folded header": post("x: y\r\n z\r\n", ""),
  "a chunk that is no number": post("transfer-encoding: chunked\r\n", "zz\r\nbody\r\n0\r\n\r\n"),
  "a chunk below nothing": post("transfer-encoding: chunked\r\n", "-1\r\n\r\n"),
  "a chunk beyond all numbers": post("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n\r\n"),
  "a chunk with a space": post("transfer-encoding: chunked\r\n", "4 \r\nbody\r\n0\r\n\r\n"),
  "a chunk that is longer than it says": post("transfer-encoding: chunked\r\n", "2\r\nbody\r\n0\r\n\r\n"),
  "a chunk that ends with a line feed": post("transfer-encoding: chunked\r\n", "4\nbody\r\n0\r\n\r\n"),
  "two hosts": post("host: b\r\n", ""),
  "a version that there is not": `POST /bench.Bytes/One HTTP/1.9\r\n${head}\r\n${second}`,
  "a line without a path": `POST HTTP/1.1\r\n${head}\r\n${second}`,
};

/** How many there are, and the names of those that were not refused, with what was said. */
export async function smuggle(port: number): Promise<{ readonly tried: number; readonly passed: readonly string[] }> {
  const passed: string[] = [];
  for (const [name, bytes] of Object.entries(requests)) {
    const said = await answerTo(port, bytes);
    const answers = said.match(/^HTTP\/1\.1 \d+/gm) ?? [];
    // Refused is one refusal, and the end.
    if (answers.length !== 1 || !/^HTTP\/1\.1 (?:400|501|505)/.test(said)) passed.push(`${name}: ${answers.join(", ") || "nothing"}`);
  }
  return { tried: Object.keys(requests).length, passed };
}

/** All that it says until it ends the connection. */
async function answerTo(port: number, bytes: string): Promise<string> {
  const socket = connect(port, "127.0.0.1").setEncoding("latin1");
  let said = "";
  socket.on("error", () => undefined).on("data", (text: string) => (said += text));
  socket.write(bytes, "latin1");
  const timer = setTimeout(() => {
    said += "\nHTTP/1.1 000 it was not ended\n";
    socket.destroy();
  }, limitMs);
  await once(socket, "close");
  clearTimeout(timer);
  return said;
}
