// What counts as a leak of all that differs.
import { expect, it } from "vitest";
import { difference, isAmiss } from "./difference.ts";

it("each difference is told with its kind, how often, and which way", () => {
  const before = { files: ["/a", "/b"], sockets: ["tcp * with web ESTAB"] };
  const after = { files: ["/b", "/c", "/c"], links: ["tap0"] };
  expect(difference(before, after)).toEqual(["files: +/c (2)", "files: -/a", "sockets: -tcp * with web ESTAB", "links: +tap0"]);
});

it.each([
  ["files: +/node/vms/x", true],
  ["processes: +postgres: a connection", true],
  ["cgroups: +/sys/fs/cgroup/x", true],
  ["processes: -node services/node/src/main.ts", true],
  ["files: -/node/identity.json", true],
  ["rows: -a row of node", true],
  ["sums: -project_usage says {}", true],
  ["descriptors: -gateway: tcp web with * listening", true],
  ["sockets: -tcp web with * LISTEN", true],
  ["processes: -postgres: a connection (2)", false],
  ["descriptors: -controller: tcp * with postgres open", false],
  ["descriptors: -gateway: a pipe", false],
  ["sockets: -tcp * with postgres ESTAB (2)", false],
  ["neighbours: -10.0.2.2 dev eth0", false],
  ["cgroups: -/sys/fs/cgroup/of/somebody/else", false],
])("%s is amiss: %s", (line, isWrong) => {
  expect(isAmiss(line)).toBe(isWrong);
});
