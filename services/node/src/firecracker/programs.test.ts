import { expect, it } from "vitest";
import { checkRelease, parseVersion, supportedReleases } from "./programs.ts";

it.each([
  [
    "Firecracker v1.17.0-dev\n\n2026-11-30T20:54:03.821 [anonymous-instance:main] Firecracker exiting successfully. exit_code=0\n",
    "1.17.0-dev",
  ],
  ["Jailer v1.17.0\n", "1.17.0"],
  ["QEMU emulator version 7.2.22\n", undefined],
  ["", undefined],
])("%j is version %s", (text, version) => {
  expect(parseVersion(text)).toBe(version);
});

it("takes the releases that it names, and no others", () => {
  for (const release of supportedReleases) checkRelease(`${release}.3`);
  for (const other of ["1.16.0", "1.170.0", "2.17.0", "1.1.17"]) {
    expect(() => checkRelease(other), other).toThrow(`Firecracker ${other} is not supported: install ${supportedReleases.join(" or ")}`);
  }
});
