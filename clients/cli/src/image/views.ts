// Images that nodes hold, as tables.
import { NodeFreed, PullState, type HeldImage, type PullImageResponse } from "@pitwall/sdk";
import type { View } from "../output/format.ts";
import { table } from "../output/table.ts";
import { byteWord, pullStateWord } from "../output/words.ts";

/** As long as `pitwall images rm` needs it. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 12);
}

export function imageTable(images: readonly HeldImage[]): string {
  return table(
    ["DIGEST", "BASE", "LAYERS", "VMS", "NODES", "IMAGE"],
    images.map(({ digest, baseBytes, layerBytes, vmCount, nodes, references }) => [
      shortDigest(digest),
      byteWord(baseBytes),
      byteWord(layerBytes),
      String(vmCount),
      nodes.join(", "),
      references.join(", "),
    ]),
  );
}

export function pullTable(results: readonly PullImageResponse[]): string {
  return table(
    ["NODE", "STATE", "DIGEST", "MESSAGE"],
    results.map(({ node, state, digest, message }) => [
      node,
      pullStateWord(state),
      shortDigest(digest),
      state === PullState.PULL_STATE_FAILED ? message : "-",
    ]),
  );
}

export function freedTable(nodes: readonly NodeFreed[]): View {
  return {
    table: () =>
      table(
        ["NODE", "IMAGES", "BASES", "LAYERS"],
        nodes.map(({ node, digests, baseBytes, layerBytes }) => [node, String(digests.length), byteWord(baseBytes), byteWord(layerBytes)]),
      ),
    json: nodes.map((node) => NodeFreed.toJSON(node)),
    names: [...new Set(nodes.flatMap(({ digests }) => digests))],
  };
}
