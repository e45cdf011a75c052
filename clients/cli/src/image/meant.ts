// Which image a word on the command line means.
import type { HeldImage } from "@pitwall/sdk";
import { usageError } from "../failure.ts";
import { absoluteImage } from "../input/image-reference.ts";

/** The digest that it is, or the one that it begins; otherwise a reference. Throws a usage error when it begins several. */
export function imageMeant(text: string, images: readonly Pick<HeldImage, "digest">[], folder: string): string {
  const hex = /^(?:sha256:)?([0-9a-f]{6,64})$/.exec(text)?.[1];
  const found = hex === undefined ? [] : images.filter(({ digest }) => digest.startsWith(`sha256:${hex}`));
  if (found.length > 1) throw usageError(`"${text}" begins the digests of ${found.length} images: write more of it`);
  if (found[0]) return found[0].digest;
  return text.startsWith("sha256:") ? text : absoluteImage(text, folder);
}
