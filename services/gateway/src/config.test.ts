// Which web ports a gateway opens without TLS.
import { expect, it } from "vitest";
import { isCleartextToOthers, readGatewayConfig } from "./config.ts";

const needed = { PITWALL_STATE_DIR: "/state", PITWALL_ISSUER: "https://sso.example.com" };
const files = { PITWALL_TLS_CERT: "/cert.pem", PITWALL_TLS_KEY: "/key.pem" };

it.each(["0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080", "gateway.example.com:8080"])(
  "that others than this machine reach, %s, has a certificate or is said to be meant",
  (listen) => {
    const env = { ...needed, PITWALL_LISTEN: listen };
    const words = /^configuration: PITWALL_LISTEN: others than this machine reach the web port, .* or say --insecure-cleartext/;
    expect(() => readGatewayConfig(env)).toThrow(words);
    expect(() => readGatewayConfig({ ...env, PITWALL_INSECURE_CLEARTEXT: "false" })).toThrow(words);
    expect(isCleartextToOthers(readGatewayConfig({ ...env, ...files }))).toBe(false);
    expect(isCleartextToOthers(readGatewayConfig({ ...env, PITWALL_INSECURE_CLEARTEXT: "true" }))).toBe(true);
  },
);

it.each(["127.0.0.1:8080", "[::1]:8080", "localhost:8080"])("on loopback, %s, needs neither", (listen) => {
  expect(isCleartextToOthers(readGatewayConfig({ ...needed, PITWALL_LISTEN: listen }))).toBe(false);
});

it("with a certificate and without its key is refused, whatever else is said", () => {
  const half = { ...needed, PITWALL_LISTEN: "0.0.0.0:8080", PITWALL_TLS_CERT: "/cert.pem", PITWALL_INSECURE_CLEARTEXT: "true" };
  expect(() => isCleartextToOthers(readGatewayConfig(half))).toThrow("one is there without the other");
});
