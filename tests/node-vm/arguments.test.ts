import { expect, it } from "vitest";
import { parseNodeVmArguments } from "./arguments.ts";

it("takes a command line apart; paths are of the user's folder", () => {
  const line = ["--mem", "4096", "--cpus", "3", "--keep-disk", "d.ext4", "--share", "x", "--share", "/y", "--json", "--", "ls", "-l"];
  expect(parseNodeVmArguments(line, "/home/me")).toEqual({
    isPair: false,
    memMib: 4096,
    cpus: 3,
    diskFile: "/home/me/d.ext4",
    shares: [
      { dir: "/home/me/x", at: "/share" },
      { dir: "/y", at: "/share1" },
    ],
    json: true,
    help: false,
    command: ["ls", "-l"],
  });
});

it("is a shell in one machine when nothing is said, and in the first of two with --two or --wire", () => {
  expect(parseNodeVmArguments([], "/")).toMatchObject({ isPair: false, command: [], shares: [], diskFile: undefined });
  for (const flag of ["--two", "--wire"]) expect(parseNodeVmArguments([flag], "/").isPair).toBe(true);
});

it.for([
  [["--mem", "lots"], "--mem: must be a whole number from 512, got lots"],
  [["--cpus", "0"], "--cpus: must be a whole number from 1, got 0"],
  [["--two", "--keep-disk", "x"], "--keep-disk: two machines have a disk each; start one at a time to keep its disk"],
  [["--json"], "--json: a shell has no JSON; name a command after --"],
] as const)("%j is refused", ([line, message]) => {
  expect(() => parseNodeVmArguments(line, "/")).toThrow(message);
});
