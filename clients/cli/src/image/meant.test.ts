import { expect, test } from "vitest";
import { imageMeant } from "./meant.ts";

const one = `sha256:abcdef${"1".repeat(58)}`;
const two = `sha256:abcdef${"2".repeat(58)}`;
const meant = (text: string): string => imageMeant(text, [{ digest: one }, { digest: two }], "/here");

test("a digest, or enough of its beginning, is that image", () => {
  expect(meant(one)).toBe(one);
  expect(meant("abcdef2")).toBe(two);
  expect(meant("sha256:abcdef1")).toBe(one);
  expect(() => meant("abcdef")).toThrow('"abcdef" begins the digests of 2 images: write more of it');
});

test("all else is a reference, also what could have been a digest", () => {
  expect(meant("nginx:1")).toBe("nginx:1");
  expect(meant("facade")).toBe("facade");
  expect(meant("oci:./image")).toBe("oci:/here/image");
  expect(meant("sha256:0000000")).toBe("sha256:0000000");
});
