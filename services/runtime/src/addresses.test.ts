import { expect, it } from "vitest";
import { isPrivateAddress, literalAddress } from "./addresses.ts";

it.each([
  "127.0.0.1",
  "127.8.9.10",
  "0.0.0.0",
  "10.1.2.3",
  "172.16.0.1",
  "172.31.255.255",
  "192.168.1.1",
  "169.254.169.254",
  "100.64.0.1",
  "198.18.0.1",
  "224.0.0.1",
  "255.255.255.255",
  "::1",
  "::",
  "fe80::1",
  "fd00::1",
  "ff02::1",
  "::ffff:127.0.0.1",
  "::ffff:7f00:1",
  "::ffff:169.254.169.254",
  "64:ff9b::7f00:1",
  "2002:7f00:1::",
  "",
  "no address",
])("counts %j as private", (address) => {
  expect(isPrivateAddress(address)).toBe(true);
});

it.each(["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])("counts %j as public", (address) => {
  expect(isPrivateAddress(address)).toBe(false);
});

it.each([
  ["https://127.1/", "127.0.0.1"],
  ["https://0x7f.0.0.1/", "127.0.0.1"],
  ["https://2130706433/", "127.0.0.1"],
  ["https://017700000001/", "127.0.0.1"],
  ["https://[::ffff:127.0.0.1]:5000/", "::ffff:7f00:1"],
  ["https://127.0.0.1.example.com/", undefined],
])("sees the address that %s means", (url, address) => {
  expect(literalAddress(new URL(url))).toBe(address);
});
