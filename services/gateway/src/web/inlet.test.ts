import { Readable } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { meterInlet } from "./inlet.ts";
import { Meter } from "./meter.ts";

/** Nobody reads it unless a test does. */
const source = (highWaterMark = 65_536): Readable => new Readable({ highWaterMark, read: () => undefined });
const limits = { messageBytes: 1_000_000, callBytes: Infinity };
const meter = (): Meter => new Meter(limits, () => undefined);
const parts = { isOver: () => false, fail: (error: unknown) => void expect(error).toBeUndefined() };

function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** How many pieces wait in it. */
async function pieces(body: Readable): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for await (const piece of body) all.push(piece as Buffer); // no encoding is set
  return all;
}

describe("an inlet", () => {
  it("passes on all that comes, in order, in whatever pieces, also what came before it", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 6_000 }), { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 12 }),
        fc.nat(5),
        async (messages, sizes, before) => {
          const all = Buffer.concat(messages.map((message) => framed(Buffer.from(message))));
          const body = source();
          let early: Buffer | undefined;
          let [at, turn] = [0, 0];
          for (; at < all.length; turn++) {
            if (turn === before) early = meterInlet(body, { meter: meter(), ...parts });
            const size = sizes[turn % sizes.length] ?? 1;
            body.push(all.subarray(at, at + (turn < 100 ? size : all.length)));
            at += turn < 100 ? size : all.length;
          }
          if (turn <= before) early = meterInlet(body, { meter: meter(), ...parts });
          body.push(null);
          expect(Buffer.concat([early ?? Buffer.alloc(0), ...(await pieces(body))]).equals(all)).toBe(true);
        },
      ),
    );
  });

  it("gathers crumbs that nobody reads, and refuses too many of them", async () => {
    const body = source();
    const failed: unknown[] = [];
    let isOver = false;
    const fail = (error: unknown): void => {
      failed.push(error);
      isOver = true;
    };
    meterInlet(body, { meter: meter(), isOver: () => isOver, fail });
    body.push(framed(Buffer.alloc(900_000)).subarray(0, 5));
    for (let at = 0; at < 150; at++) body.push(Buffer.alloc(1));
    expect([body.readableLength, failed]).toEqual([0, []]);
    for (let at = 0; at < 1_000; at++) body.push(Buffer.alloc(1));
    expect(failed.map(String)).toEqual([expect.stringContaining("the call comes in pieces that are too small")]);
    body.push(null);
    expect(Buffer.concat(await pieces(body))).toHaveLength(0);
  });

  it("lets a source go on that tells of nothing until it is asked again", async () => {
    const all = framed(Buffer.alloc(20));
    let at = 0;
    const body = new Readable({
      highWaterMark: 1,
      read() {
        body.push(at < all.length ? all.subarray(at, ++at) : null);
      },
    });
    meterInlet(body, { meter: meter(), ...parts });
    expect(Buffer.concat(await pieces(body)).equals(all)).toBe(true);
  });
});
