import { expect, it } from "vitest";
import { ingressUrl } from "./ingress-url.ts";

it.each([
  ["https://gw.example.com", "web", "/", "https://web.vms.example.com/"],
  ["http://127.0.0.1:8080", "8080-web", "/a?b=c#d", "http://8080-web.vms.example.com:8080/a?b=c#d"],
  ["https://gw.example.com/", "web", "//evil.example/x", "https://web.vms.example.com/evil.example/x"],
])("%s, %s and %s make %s", (endpoint, label, path, expected) =>
  expect(ingressUrl(endpoint, "vms.example.com", label, path).href).toBe(expected),
);
