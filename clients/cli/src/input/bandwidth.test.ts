import { expect, test } from "vitest";
import { bandwidthIn, bandwidthWords, parseBandwidth } from "./bandwidth.ts";

test.each([
  ["100M", 100_000_000n],
  ["1G", 1_000_000_000n],
  ["64kbit", 64_000n],
  ["1500000", 1_500_000n],
  ["none", 0n],
])("reads %s", (text, bps) => expect(parseBandwidth(text)).toBe(bps));

test.each(["", "0", "-1M", "1.5G", "100m", "100MB", "lots"])("refuses %j", (text) =>
  expect(() => parseBandwidth(text)).toThrow("Expected bits a second such as 100M or 1G, or none."),
);

test("what is not said is not asked for, and no limit is", () => {
  expect(bandwidthIn({})).toEqual({});
  expect(bandwidthIn({ bandwidthIn: 0n })).toEqual({ bandwidthInBps: 0n });
});

test("it is shown as it can be said", () => {
  expect(bandwidthWords({ bandwidthInBps: 1_500_000n, bandwidthOutBps: 2_000_000_000n })).toBe("in 1500k, out 2G");
  expect(bandwidthWords({ bandwidthInBps: 0n, bandwidthOutBps: 0n })).toBe("");
});
