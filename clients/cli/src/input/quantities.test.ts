import { describe, expect, it } from "vitest";
import { parseByteSize, parseCount, parseCpuMillis, parseDurationMs } from "./quantities.ts";

describe("CPUs", () => {
  it.each([
    ["1", 1000],
    ["0.5", 500],
    ["500m", 500],
    ["1.25", 1250],
    ["16", 16_000],
  ])("reads %s", (text, millis) => expect(parseCpuMillis(text)).toBe(millis));
  it.each(["", "0", "0m", "-1", "1.5m", "two", "1 ", "1e3", "0.0001", "99999999"])("refuses %j", (text) =>
    expect(() => parseCpuMillis(text)).toThrow("Expected CPUs such as 2, 0.5 or 500m."),
  );
});

describe("sizes", () => {
  it.each([
    ["512Mi", 536_870_912n],
    ["4Gi", 4_294_967_296n],
    ["1.5Gi", 1_610_612_736n],
    ["10G", 10_000_000_000n],
    ["1048576", 1_048_576n],
    ["512MiB", 536_870_912n],
  ])("reads %s", (text, bytes) => expect(parseByteSize(text)).toBe(bytes));
  it.each(["", "0", "Mi", "512mi", "512 Mi", "-1Gi", "99999999Ti", "lots"])("refuses %j", (text) =>
    expect(() => parseByteSize(text)).toThrow("Expected a size such as 512Mi or 4Gi."),
  );
});

describe("durations", () => {
  it.each([
    ["500ms", 500],
    ["90s", 90_000],
    ["1.5m", 90_000],
    ["1h", 3_600_000],
  ])("reads %s", (text, ms) => expect(parseDurationMs(text)).toBe(ms));
  it.each(["", "0s", "90", "5 m", "1d", "-1s", "1000h"])("refuses %j", (text) =>
    expect(() => parseDurationMs(text)).toThrow("Expected a duration such as 90s, 5m or 1h."),
  );
});

describe("counts", () => {
  it("reads whole numbers", () => expect(parseCount("20")).toBe(20));
  it.each(["", "0", "1.5", "-1", "ten", "9999999999"])("refuses %j", (text) =>
    expect(() => parseCount(text)).toThrow("Expected a whole number from 1 up."),
  );
});
