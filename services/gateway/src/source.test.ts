import { expect, it } from "vitest";
import { networks, sourceOf } from "./source.ts";

it.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:0db8:0001:2::9", "2001:db8:1:2::/64"],
  ["2001:db8::9", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["64:ff9b::192.0.2.7", "64:ff9b:0:0::/64"],
  ["", ""],
])("%s counts as %s", (address, source) => expect(sourceOf(address)).toBe(source));

it("knows the networks that it was told", () => {
  const known = networks(["127.0.0.0/8", "::1", "2001:db8::/32"]);
  const inside = ["127.0.0.1", "::ffff:127.1.2.3", "::1", "2001:db8:ffff::1"];
  const outside = ["128.0.0.1", "::2", "2001:db9::1", "", "web"];
  expect([...inside, ...outside].filter((address) => known.has(address))).toEqual(inside);
});

it.each(["10.0.0.0/33", "::1/129", "10.0.0.0/", "web", "10.0.0.0/8/8x"])("refuses %j", (text) => {
  expect(() => networks([text])).toThrow(`got ${JSON.stringify(text)}`);
});
