import { describe, expect, it } from "vitest";
import { z } from "zod";
import { bytes, duration, hostPort, hostPortText, isLoopback, list, readConfig } from "./config.ts";

describe("readConfig", () => {
  const schema = z.object({
    PITWALL_A: duration.default(5000),
    PITWALL_B: hostPort,
    PITWALL_C: bytes.optional(),
    PITWALL_D: list.default([]),
  });

  it("parses units and fills defaults", () => {
    expect(readConfig(schema, { PITWALL_B: "[::1]:70", PITWALL_C: "1.5Gi", PITWALL_D: "a, b,," })).toEqual({
      PITWALL_A: 5000,
      PITWALL_B: { host: "::1", port: 70 },
      PITWALL_C: 1610612736,
      PITWALL_D: ["a", "b"],
    });
  });

  it("reports every fault at once, by name", () => {
    expect(() => readConfig(schema, { PITWALL_A: "5 minutes", PITWALL_C: "lots" })).toThrow(
      'configuration: PITWALL_A: expected a duration such as 500ms, 30s, 5m or 1h, got "5 minutes"; ' +
        'PITWALL_B: is required; PITWALL_C: expected a size such as 512Mi or 4Gi, got "lots"',
    );
  });

  it("treats an empty variable as unset", () => {
    expect(() => readConfig(schema, { PITWALL_B: "" })).toThrow("PITWALL_B: is required");
  });

  it("refuses a port above 65535", () => {
    expect(() => readConfig(schema, { PITWALL_B: "localhost:70000" })).toThrow("PITWALL_B: expected HOST:PORT");
  });
});

describe("isLoopback", () => {
  it.each(["127.0.0.1", "127.8.9.1", "localhost", "::1"])("accepts %s", (host) => expect(isLoopback(host)).toBe(true));
  it.each(["0.0.0.0", "128.0.0.1", "127.0.0.1.example.com", "::"])("refuses %s", (host) => expect(isLoopback(host)).toBe(false));
});

it.each(["127.0.0.1:80", "[::1]:2222", "example.com:0"])("writes %s as it was read", (text) => {
  expect(hostPortText(hostPort.parse(text))).toBe(text);
});
