import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Meter } from "./meter.ts";

describe("a meter", () => {
  const refused: string[] = [];
  const meter = (messageBytes: number, callBytes = Infinity): Meter => new Meter({ messageBytes, callBytes }, (why) => refused.push(why));
  const framed = (length: number): Buffer => {
    const frame = Buffer.alloc(5 + length, 9);
    frame[0] = 0;
    frame.writeUInt32BE(length, 1);
    return frame;
  };

  it("lets messages through that are short enough, in pieces of any size, and refuses the first that is not", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(600), { maxLength: 20 }),
        fc.array(fc.integer({ min: 256, max: 700 }), { minLength: 1, maxLength: 10 }),
        (lengths, sizes) => {
          const bytes = Buffer.concat(lengths.map(framed));
          const one = meter(500);
          let [at, isRefused] = [0, false];
          try {
            for (let turn = 0; at < bytes.length; turn++) {
              const size = sizes[turn % sizes.length] ?? 1;
              one.take(bytes.subarray(at, at + size));
              at += size;
            }
          } catch (error) {
            isRefused = error instanceof Error && error.message.startsWith("a message may have 500 bytes");
          }
          expect(isRefused).toBe(lengths.some((length) => length > 500));
        },
      ),
      { examples: [[[501], [1]]] },
    );
  });

  it("refuses what comes in crumbs, and not many short messages", () => {
    const short = meter(1_000);
    for (let at = 0; at < 10_000; at++) short.take(framed(1));
    const crumbs = meter(1_000_000);
    crumbs.take(framed(900_000).subarray(0, 5));
    expect(() => {
      for (let at = 0; at < 300; at++) crumbs.take(Buffer.alloc(1));
    }).toThrow("the call comes in pieces that are too small");
    expect(refused).toContain("small_frames");
  });

  it("refuses a call that is too long", () => {
    const one = meter(1_000, 2_000);
    one.take(framed(995));
    one.take(framed(995));
    expect(() => one.take(Buffer.alloc(1))).toThrow("a call may send 2000 bytes");
  });
});
