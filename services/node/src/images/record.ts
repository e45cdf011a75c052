// What a node remembers of an image, in a file beside its base. A base without one is not kept.
import { readFile, stat } from "node:fs/promises";
import { imageConfig, type ImageConfig } from "@pitwall/oci";
import { PitwallError, writeFileAtomic } from "@pitwall/runtime";
import { z } from "zod";

export interface ImageRecord {
  readonly config: ImageConfig;
  /** What it was pulled as, the latest last. */
  readonly references: readonly string[];
  /** Diff ids, lowest first. */
  readonly layers: readonly string[];
}

/** Counts up when the meaning of what is stored changes. Images of another edition, or with fields missing, are made again. */
const edition = 2;
const stored = z.object({ edition: z.literal(edition), config: imageConfig, references: z.array(z.string()), layers: z.array(z.string()) });

/** Each is parsed once: compiling a parser for it would take longer. */
const once = { jitless: true };

export const recordPath = (base: string): string => base.replace(/\.sqfs$/, ".config.json");

export async function writeRecord(base: string, record: ImageRecord): Promise<void> {
  await writeFileAtomic(recordPath(base), JSON.stringify({ edition, ...record }), 0o644);
}

/** Undefined when there is no such base, or it is not kept. */
export async function readRecord(base: string): Promise<ImageRecord | undefined> {
  if (!(await stat(base).catch(() => undefined))) return undefined;
  const text = await readFile(recordPath(base), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  return stored.safeParse(JSON.parse(text), once).data;
}

/** The name of its files. */
export function hexOf(digest: string): string {
  const match = /^sha256:([0-9a-f]{64})$/.exec(digest);
  if (!match?.[1]) throw new PitwallError("internal", "an assignment came without an image digest");
  return match[1];
}

/** Of a base's file name. */
export function digestOf(name: string): string | undefined {
  const hex = /^([0-9a-f]{64})\.sqfs$/.exec(name)?.[1];
  return hex === undefined ? undefined : `sha256:${hex}`;
}
