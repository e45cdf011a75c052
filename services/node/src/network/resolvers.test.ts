import { expect, test } from "vitest";
import { resolversIn } from "./resolvers.ts";

test("those that only the host itself can ask are left out", () => {
  const text =
    "# by hand\nsearch x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\n nameserver 2001:db8::1 \n";
  expect(resolversIn(text)).toEqual(["10.0.0.2", "2001:db8::1"]);
});

test("three at most", () => {
  expect(resolversIn(["1", "2", "3", "4"].map((n) => `nameserver 10.0.0.${n}`).join("\n"))).toHaveLength(3);
});
