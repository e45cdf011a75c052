import { expect, test } from "vitest";
import { parseSubnet } from "./address-plan.ts";
import { portOf } from "./host-network.ts";

const subnet = parseSubnet("172.30.0.0/16");
const of = { vmId: "v", epoch: 3n, spec: undefined };

test("a VM has the address that the controller gave it, on the placement that it was given for", () => {
  expect(portOf({ ...of, address: { ipv4: "172.30.4.5", ipv6: "" } }, subnet)).toEqual({ vmId: "v", epoch: 3n, address: "172.30.4.5" });
});

test.each(["10.0.0.1", "172.30.0.1", "172.30.0.0", "172.30.255.255", "172.30.0.9 dev lo"])("%s is none of this node's", (ipv4) => {
  expect(() => portOf({ ...of, address: { ipv4, ipv6: "" } }, subnet)).toThrow("this node's network is 172.30.0.0/16: start it again");
});

test("a VM without an address is not started", () => {
  expect(() => portOf({ ...of, address: undefined }, subnet)).toThrow("has given the VM no address");
});
