import { expect, it } from "vitest";
import { ingressHost } from "./ingress-host.ts";

const id = "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c";

it.each([
  ["web.vms.example.com", { host: "web", port: 0 }],
  ["WEB.vms.Example.com:8443", { host: "web", port: 0 }],
  ["8080-web.vms.example.com", { host: "web", port: 8080 }],
  ["8080-a-b--c.vms.example.com", { host: "a-b--c", port: 8080 }],
  [`${id}.vms.example.com`, { host: id, port: 0 }],
  [`8080-${id}.vms.example.com`, { host: id, port: 8080 }],
  // An id may look as if a port stood before it.
  [`12345678-9d1e-4c3a-8f60-1d2e3f4a5b6c.vms.example.com`, { host: "12345678-9d1e-4c3a-8f60-1d2e3f4a5b6c", port: 0 }],
  ["a.web.vms.example.com", null],
  [".vms.example.com", null],
  ["-web.vms.example.com", null],
  ["web-.vms.example.com", null],
  ["0-web.vms.example.com", null],
  ["65536-web.vms.example.com", null],
  ["we_b.vms.example.com", null],
  ["web.vms.example.com.", null],
  ["web.vms.example.com:1:2", null],
  ["vms.example.com", undefined],
  ["webvms.example.com", undefined],
  ["web.vms.example.com.evil.example", undefined],
  ["web.vms.example.org", undefined],
  ["", undefined],
])("%s names %j", (authority, expected) => expect(ingressHost(authority, "vms.example.com")).toEqual(expected));
