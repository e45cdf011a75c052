import { expect, it } from "vitest";
import { Penalties } from "./penalties.ts";

function at(): { penalties: Penalties; pass: (ms: number) => void } {
  let nowMs = 1_000_000;
  return { penalties: new Penalties(() => nowMs), pass: (ms) => void (nowMs += ms) };
}

it("refuses a source from its third refused login on, until what it did is over", () => {
  const { penalties, pass } = at();
  penalties.charge("a", "refused-login");
  penalties.charge("a", "refused-login");
  expect(penalties.isRefused("a")).toBe(false);
  penalties.charge("a", "refused-login");
  expect([penalties.isRefused("a"), penalties.isRefused("b")]).toEqual([true, false]);
  pass(14_999);
  expect(penalties.isRefused("a")).toBe(true);
  pass(1);
  expect(penalties.isRefused("a")).toBe(false);
});

it("refuses a source with the third flood within seconds", () => {
  const { penalties, pass } = at();
  for (let flood = 0; flood < 2; flood++) {
    penalties.charge("a", "flood");
    pass(2_000);
  }
  expect(penalties.isRefused("a")).toBe(false);
  penalties.charge("a", "flood");
  expect(penalties.isRefused("a")).toBe(true);
});

it("forgives who errs rarely", () => {
  const { penalties, pass } = at();
  for (let index = 0; index < 10; index++) {
    penalties.charge("a", "refused-login");
    pass(5_000);
  }
  expect(penalties.isRefused("a")).toBe(false);
});

it("refuses at once who breaks the rules, and nobody for longer than ten minutes", () => {
  const { penalties, pass } = at();
  for (let index = 0; index < 100; index++) penalties.charge("a", "overrun");
  pass(599_999);
  expect(penalties.isRefused("a")).toBe(true);
  pass(1);
  expect(penalties.isRefused("a")).toBe(false);
});

it("remembers a bounded number of sources", () => {
  const { penalties } = at();
  penalties.charge("first", "overrun");
  for (let index = 0; index < 65_536; index++) penalties.charge(`s${index}`, "overrun");
  expect([penalties.isRefused("first"), penalties.isRefused("s65535")]).toEqual([false, true]);
});
