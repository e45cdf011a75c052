import { expect, it } from "vitest";
import { tscKhzOf } from "./tsc.ts";

it("is half of BogoMIPS, in kHz", () => {
  expect(tscKhzOf("processor\t: 0\ncpu MHz\t\t: 3409.811\nbogomips\t: 5192.25\nprocessor\t: 1\nbogomips\t: 5200.00\n")).toBe(2_596_125);
});

it("is not guessed", () => {
  expect(() => tscKhzOf("processor\t: 0\ncpu MHz\t\t: 3409.811\n")).toThrow("/proc/cpuinfo does not say how fast the processor is");
});
