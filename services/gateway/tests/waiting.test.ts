// What waits in the gateway for one user's calls, of which nobody reads what was sent, or answered: it is little, and in nobody's way.
import { connect } from "node:http2";
import type { Writable } from "node:stream";
import { expect, it, onTestFinished } from "vitest";
import { answer, answered, frame, gatewayBefore } from "./support/gateway-before.ts";
import { isServed } from "./support/hostile-clients.ts";

const calls = 200;
const chunk = Buffer.alloc(32 * 1024);
const most = 4 * 2 ** 20;
/** After so long without a byte nothing more is taken. */
const quietMs = 1_000;
const hanging = { ":method": "POST", ":path": "/a.B/C", "content-type": "application/grpc", "x-hang": "1" };

/** A client whose library does not give up by itself. */
function patient(port: number, settings = {}): ReturnType<typeof connect> {
  const session = connect(`http://127.0.0.1:${port}`, { settings, ...{ maxSessionMemory: 1_000 } });
  session.on("error", () => undefined);
  onTestFinished(() => session.destroy());
  return session;
}

/** Streams that are written to for as long as they take more. */
class Poured {
  #bytes = 0;
  #count = 0;
  #movedMs = performance.now();

  pour(into: Writable): void {
    this.#count++;
    let mine = 0;
    const more = (): void => {
      while (mine < most && into.writable) {
        mine += chunk.length;
        this.#bytes += chunk.length;
        this.#movedMs = performance.now();
        if (!into.write(chunk)) break;
      }
    };
    into.on("drain", more);
    more();
  }

  /** By each of so many streams, once they take no more. */
  async each(count: number): Promise<number> {
    const isStill = (): boolean => this.#count === count && performance.now() - this.#movedMs > quietMs;
    await expect.poll(isStill, { timeout: 40_000 }).toBe(true);
    return this.#bytes / count;
  }
}

it("requests that their upstream does not read take 256 KiB each, and are in nobody's way", { timeout: 60_000 }, async () => {
  const gateway = await gatewayBefore((stream, headers) => {
    if (headers["x-hang"] === undefined) answer(stream, frame); // others are not read
  });
  const session = patient(gateway.port);
  const poured = new Poured();
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(most, 1);
  for (let at = 0; at < calls; at++) {
    const stream = session.request(hanging);
    stream.on("error", () => undefined).write(prefix);
    poured.pour(stream);
  }
  // Beside what the gateway holds there is a window of the upstream's, and what either library takes in advance.
  expect(await poured.each(calls)).toBeLessThan(512 * 1024);
  for (let at = 0; at < 5; at++) await isServed(gateway.port);
});

it("answers that their client does not read take 64 KiB each, and are in nobody's way", { timeout: 60_000 }, async () => {
  const poured = new Poured();
  const gateway = await gatewayBefore((stream, headers) => {
    if (headers["x-hang"] === undefined) return answer(stream, frame);
    stream.respond(answered);
    poured.pour(stream);
  });
  const session = patient(gateway.port, { initialWindowSize: 0 });
  for (let at = 0; at < calls; at++) session.request(hanging).on("error", () => undefined);
  expect(await poured.each(calls)).toBeLessThan(256 * 1024);
  for (let at = 0; at < 5; at++) await isServed(gateway.port);
});
