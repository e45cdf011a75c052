import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { Placements } from "./placements.ts";

test("ways to an older placement end when a later one is heard of, and none is opened any more", () => {
  const placements = new Placements();
  const [older, later, other] = [new PassThrough(), new PassThrough(), new PassThrough()];
  for (const stream of [older, later, other]) stream.on("error", () => undefined);
  placements.opened("a", 1n, older);
  placements.opened("b", 1n, other);
  placements.heard("a", 2n);
  expect([older.destroyed, other.destroyed]).toEqual([true, false]);
  placements.opened("a", 2n, later);
  expect(() => placements.heard("a", 1n)).toThrow("the VM runs elsewhere now");
  expect(() => placements.opened("a", 1n, new PassThrough())).toThrow("the VM runs elsewhere now");
  expect(later.destroyed).toBe(false);
});

test("of VMs to which no way is open the oldest are forgotten, of others none", () => {
  const placements = new Placements();
  const stream = new PassThrough();
  placements.opened("open", 5n, stream);
  placements.heard("closed", 5n);
  for (let index = 0; index < 10_000; index++) placements.heard(String(index), 1n);
  expect(() => placements.heard("open", 4n)).toThrow("the VM runs elsewhere now");
  placements.heard("closed", 4n);
});
