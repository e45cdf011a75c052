import { generateKeyPairSync } from "node:crypto";
import { append, entryHash, rootOf, signHead, verifyExport, type Entry, type Frontier } from "@pitwall/audit";
import { AuditEntry, AuditHead } from "@pitwall/sdk";
import { expect, it } from "vitest";
import { formatLine, parseExport } from "./export-file.ts";

const { privateKey } = generateKeyPairSync("ed25519");

function exported(size: number): string[] {
  let frontier: Frontier = { size: 0, peaks: [] };
  const lines: string[] = [];
  for (let index = 0; index < size; index++) {
    const entry: Entry = {
      index,
      timeMs: 1_800_000_000_123 + index,
      actor: "ada",
      subject: "ada",
      action: "VmService/StopVm",
      projectId: "",
      object: `vm/${index}`,
      detail: '{"name": "web"}',
      requestId: "",
      generation: 2n ** 60n,
    };
    const leafHash = entryHash(entry);
    frontier = append(frontier, leafHash);
    const { timeMs, ...rest } = entry;
    lines.push(formatLine({ entry: AuditEntry.fromPartial({ ...rest, index: BigInt(index), time: new Date(timeMs), leafHash }) }));
  }
  const { root, signature, publicKey, timeMs } = signHead({ size, root: rootOf(frontier) }, 1_800_000_000_999, privateKey);
  const head = { size: BigInt(size), rootHash: root, signature, publicKey, time: new Date(timeMs) };
  return [...lines, formatLine({ head: AuditHead.fromPartial(head) })];
}

it("is read as it was written", () => {
  const { entries, head, faults } = parseExport(exported(5).join(""));
  expect(faults).toEqual([]);
  expect(verifyExport(entries, head)).toEqual([]);
});

it("names lines that are neither, and everything after the head", () => {
  const lines = exported(3);
  expect(parseExport([...lines.slice(0, 1), "{}\n", '{"entry":\n', ...lines.slice(1), ...lines.slice(0, 1)].join("")).faults).toEqual([
    "line 2 is damaged: it is neither an entry nor a head",
    "line 3 is damaged: it is neither an entry nor a head",
    "line 7 comes after the head",
  ]);
});
