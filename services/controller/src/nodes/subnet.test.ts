import { expect, test } from "vitest";
import { subnetOf } from "./subnet.ts";

const good = { ipv4: "172.30.0.0/16", ipv6: "fd12:3456:789a::/64" };

test("a node without a subnet has none", () => {
  expect(subnetOf({ subnet: undefined })).toBeUndefined();
});

test("what a node says is taken as it is", () => {
  expect(subnetOf({ subnet: good })).toEqual(good);
});

test.each([
  { ...good, ipv4: "" },
  { ...good, ipv4: "172.30.0.0" },
  { ...good, ipv4: "172.30.0.0/4" },
  { ...good, ipv4: "172.30.0.0/30" },
  { ...good, ipv4: "172.30.0.0/16/1" },
  { ...good, ipv4: "172.30.0.0/16'; --" },
  { ...good, ipv6: "fd12::/48" },
  { ...good, ipv6: "fe80::1%eth0/64" },
  { ...good, ipv6: "172.30.0.0/64" },
])("$ipv4 with $ipv6 is none", (subnet) => {
  expect(subnetOf({ subnet })).toBeUndefined();
});
