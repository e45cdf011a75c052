import { expect, test } from "vitest";
import { mergeInventories } from "./inventory.ts";

const image = (digest: string, reference: string, layerBytes: bigint) => ({ digest, references: [reference], baseBytes: 7n, layerBytes });

test("an image that two nodes hold is one, with all its references, and counts its VMs", () => {
  const inventories = new Map([
    ["n2", { images: [image("sha256:b", "docker.io/library/b:2", 0n)] }],
    ["n1", { images: [image("sha256:b", "docker.io/library/b:1", 9n), image("sha256:a", "docker.io/library/a:1", 1n)] }],
  ]);
  expect(mergeInventories(inventories, new Map([["sha256:b", 3]]))).toEqual([
    { digest: "sha256:a", references: ["docker.io/library/a:1"], baseBytes: 7n, layerBytes: 1n, nodes: ["n1"], vmCount: 0 },
    {
      digest: "sha256:b",
      references: ["docker.io/library/b:1", "docker.io/library/b:2"],
      baseBytes: 7n,
      layerBytes: 9n,
      nodes: ["n1", "n2"],
      vmCount: 3,
    },
  ]);
});
