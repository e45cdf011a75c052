// Image references as people write them.
import { resolve } from "node:path";

/** `oci:./image` becomes an absolute path, as the server wants it; other references stay as they are. */
export function absoluteImage(reference: string, folder: string): string {
  // A path that begins with a digit is a port: `oci:5000/name` is a registry.
  const [, kind, path = "", tag = ""] = /^(oci|docker-archive):([^:0-9][^:]*)(:.*)?$/.exec(reference) ?? [];
  return kind === undefined ? reference : `${kind}:${resolve(folder, path)}${tag}`;
}
