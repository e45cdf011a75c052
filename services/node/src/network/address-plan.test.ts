import fc from "fast-check";
import { expect, test } from "vitest";
import { isOfSubnet, isTapName, macOf, namesOf, parseSubnet, tapName } from "./address-plan.ts";

test("a subnet has its gateway first, and an IPv6 network that follows from it", () => {
  const subnet = parseSubnet("172.30.0.0/16");
  expect(subnet).toMatchObject({ cidr: "172.30.0.0/16", bits: 16, gateway: "172.30.0.1" });
  expect(subnet.cidr6).toMatch(/^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::\/64$/);
  expect(subnet.gateway6).toBe(subnet.cidr6.replace("/64", "ac1e:1"));
  expect(parseSubnet("172.30.0.0/17").cidr6).not.toBe(subnet.cidr6);
});

test.each([
  ["172.30.0.1/16", "172.30.0.0/16: it has bits beyond its length"],
  ["8.8.0.0/16", "a part of 10.0.0.0/8"],
  ["172.0.0.0/11", "a part of 10.0.0.0/8"],
  ["10.0.0.0/7", "/8 to /28"],
  ["10.0.0.0/29", "/8 to /28"],
  ["10.0.0.0/08x", "/8 to /28"],
  ["10.0.0.0", "/8 to /28"],
  ["fd00::/64", "/8 to /28"],
])("%s is no subnet: it says what is", (cidr, says) => {
  expect(() => parseSubnet(cidr)).toThrow(says);
});

test.each([
  ["172.30.0.0", false],
  ["172.30.0.1", false],
  ["172.30.0.2", true],
  ["172.30.255.254", true],
  ["172.30.255.255", false],
  ["172.31.0.2", false],
  ["fd00::2", false],
  ["172.30.0.2; drop", false],
])("%s may be a VM's: %s", (address, expected) => {
  expect(isOfSubnet(parseSubnet("172.30.0.0/16"), address)).toBe(expected);
});

test("what follows from an address is told apart as addresses are", () => {
  const byte = fc.integer({ min: 0, max: 255 });
  const port = fc.record({
    vmId: fc.uuid(),
    epoch: fc.bigInt(1n, 2n ** 63n),
    address: fc.tuple(byte, byte).map(([c, d]) => `172.30.${c}.${d}`),
  });
  const subnet = parseSubnet("172.30.0.0/16");
  fc.assert(
    fc.property(port, port, (a, b) => {
      const [ofA, ofB] = [namesOf(subnet, a), namesOf(subnet, b)];
      for (const key of ["mac", "address6", "linkLocal"] as const) expect(ofA[key] === ofB[key]).toBe(a.address === b.address);
      expect(ofA.tap === ofB.tap).toBe(a.vmId === b.vmId && a.epoch === b.epoch);
      expect(isTapName(ofA.tap)).toBe(true);
      expect(ofA.tap.length).toBeLessThanOrEqual(15);
    }),
  );
});

test("MAC and link-local address are what a guest of Linux makes of each other", () => {
  const { mac, linkLocal } = namesOf(parseSubnet("172.30.0.0/16"), { vmId: "a", epoch: 1n, address: "172.30.1.5" });
  expect({ mac, linkLocal }).toEqual({ mac: "02:00:ac:1e:01:05", linkLocal: "fe80::acff:fe1e:105" });
  expect(macOf("172.30.1.5")).toBe(mac);
});

test("the bridge itself is no TAP", () => {
  expect(isTapName("pwbr0")).toBe(false);
  expect(tapName("a", 1n)).not.toBe(tapName("a", 2n));
});
