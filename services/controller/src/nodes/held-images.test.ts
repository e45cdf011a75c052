import { expect, test } from "vitest";
import { boundedImages, mostImages } from "./held-images.ts";

const digest = (n: number): string => `sha256:${n.toString(16).padStart(64, "0")}`;

test("of what a node says that it holds, only digests count, each once, and no more than are looked at", () => {
  const rest = ["", "sha256:", `sha256:${"g".repeat(64)}`, `${digest(1)} `, `SHA256:${"0".repeat(64)}`, "sha512:00", "x".repeat(100_000)];
  expect(boundedImages([digest(2), ...rest, digest(1), digest(2)])).toEqual([digest(1), digest(2)]);
  expect(boundedImages(Array.from({ length: mostImages + 5 }, (_, n) => digest(n))).length).toBe(mostImages);
});
