import { HeldImage, NodeFreed, PullImageResponse, PullState } from "@pitwall/sdk";
import { expect, test } from "vitest";
import { freedTable, imageTable, pullTable } from "./views.ts";

const digest = `sha256:0123456789abcdef${"0".repeat(48)}`;

test("an image is a line, with a digest that rm takes", () => {
  const image = { digest, references: ["a:1", "a:2"], baseBytes: 3n * 2n ** 20n, layerBytes: 0n, nodes: ["n1", "n2"], vmCount: 2 };
  expect(imageTable([HeldImage.fromPartial(image)])).toBe(
    "DIGEST        BASE  LAYERS  VMS  NODES   IMAGE\n0123456789ab  3Mi   0       2    n1, n2  a:1, a:2\n",
  );
});

test("a pull says how it went on each node", () => {
  const done = PullImageResponse.fromPartial({ node: "n1", digest, state: PullState.PULL_STATE_DONE });
  const failed = PullImageResponse.fromPartial({ node: "n2", digest, state: PullState.PULL_STATE_FAILED, message: "the disk is full" });
  expect(pullTable([done, failed])).toBe(
    "NODE  STATE   DIGEST        MESSAGE\nn1    done    0123456789ab  -\nn2    failed  0123456789ab  the disk is full\n",
  );
});

test("what was freed is counted for people and listed for programs", () => {
  const freed = NodeFreed.fromPartial({ node: "n1", digests: [digest], baseBytes: 2n ** 20n, layerBytes: 2n ** 30n });
  const view = freedTable([freed, NodeFreed.fromPartial({ node: "n2" })]);
  expect(view.table()).toBe("NODE  IMAGES  BASES  LAYERS\nn1    1       1Mi    1Gi\nn2    0       0      0\n");
  expect(view.names).toEqual([digest]);
  expect(view.json).toMatchObject([{ node: "n1", baseBytes: "1048576" }, { node: "n2" }]);
});
