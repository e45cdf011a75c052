// The file that `pitwall audit export` writes: one JSON object a line, `{"entry":…}`, and the signed head, `{"head":…}`, last.
import { readFile } from "node:fs/promises";
import { createPublicKey } from "node:crypto";
import { verifyExport, type ExportedEntry, type SignedHead } from "@pitwall/audit";
import { AuditEntry, AuditHead } from "@pitwall/sdk";
import { CliError } from "../failure.ts";

export interface ExportFile {
  readonly entries: readonly ExportedEntry[];
  readonly head: SignedHead | undefined;
  /** Lines that are none of the two. */
  readonly faults: readonly string[];
}

export function formatLine(item: { entry: AuditEntry } | { head: AuditHead }): string {
  return `${JSON.stringify("entry" in item ? { entry: AuditEntry.toJSON(item.entry) } : { head: AuditHead.toJSON(item.head) })}\n`;
}

export function parseExport(text: string): ExportFile {
  const entries: ExportedEntry[] = [];
  const faults: string[] = [];
  let head: SignedHead | undefined;
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const [at, line] of lines.entries()) {
    const item = itemOf(line);
    if (head) faults.push(`line ${at + 1} comes after the head`);
    else if (item === undefined) faults.push(`line ${at + 1} is damaged: it is neither an entry nor a head`);
    else if ("index" in item) entries.push(item);
    else head = item;
  }
  return { entries, head, faults };
}

function itemOf(line: string): ExportedEntry | SignedHead | undefined {
  try {
    const item: unknown = JSON.parse(line);
    if (typeof item !== "object" || item === null) return undefined;
    if ("entry" in item) return toEntry(AuditEntry.fromJSON(item.entry));
    return "head" in item ? toHead(AuditHead.fromJSON(item.head)) : undefined;
  } catch {
    return undefined;
  }
}

function toEntry({ index, time, leafHash, ...rest }: AuditEntry): ExportedEntry {
  return { ...rest, index: Number(index), timeMs: time?.getTime() ?? 0, leafHash: Buffer.from(leafHash) };
}

function toHead({ size, rootHash, time, signature, publicKey }: AuditHead): SignedHead {
  return {
    size: Number(size),
    root: Buffer.from(rootHash),
    timeMs: time?.getTime() ?? 0,
    signature: Buffer.from(signature),
    publicKey: Buffer.from(publicKey),
  };
}

export interface Kept {
  /** An older export, or the head of one. */
  readonly head?: string | undefined;
  /** PEM. */
  readonly publicKey?: string | undefined;
}

export interface Verdict {
  readonly faults: readonly string[];
  readonly entries: number;
  readonly head: SignedHead | undefined;
}

/** Judges an export file with what was kept before. Throws when a file cannot be read. */
export async function verifyFile(path: string, kept: Kept): Promise<Verdict> {
  const { entries, head, faults } = parseExport(await textOf(path));
  const older = kept.head === undefined ? undefined : parseExport(await textOf(kept.head));
  if (older && !older.head) throw new CliError(`${kept.head ?? ""} holds no signed head`);
  const publicKey = kept.publicKey === undefined ? undefined : publicKeyOf(await textOf(kept.publicKey), kept.publicKey);
  const found = verifyExport(entries, head, { head: older?.head, entries: older?.entries, publicKey });
  return { faults: [...faults, ...found], entries: entries.length, head };
}

async function textOf(path: string): Promise<string> {
  return readFile(path, "utf8").catch((cause: unknown) => {
    throw new CliError(`${path} cannot be read`, { cause });
  });
}

function publicKeyOf(pem: string, path: string): Buffer {
  try {
    return createPublicKey(pem).export({ type: "spki", format: "der" });
  } catch (cause) {
    throw new CliError(`${path} holds no public key in PEM`, { cause });
  }
}
