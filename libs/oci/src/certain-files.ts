// Which files of a layer are in the image whatever else the layer holds, told while only its beginning is known.
// Layers are gone through from the top: what those above say is known in full. The layer itself and those below may still disprove an
// answer (a name that comes twice, a folder that is a link): the tree of all layers has the last word.
import { cleanPath, opaque, whiteout } from "./merged-tree.ts";
import type { TarEntry } from "./tar-header.ts";

export class CertainFiles {
  /** What a layer above replaces or hides, with all below it. */
  readonly #taken = new Set<string>();
  /** What a layer above makes a folder. */
  readonly #folders = new Set<string>();
  /** Links, through which a path would lead elsewhere. */
  readonly #links = new Set<string>();
  #isRootTaken = false;

  /** The path of a file that nothing known so far hides, replaces or leads elsewhere; undefined for all else. */
  pathOf(entry: TarEntry): string | undefined {
    const parts = cleanPath(entry.name);
    if (entry.type === "symlink") this.#links.add(parts.join("/"));
    if (entry.type !== "file" || this.#isRootTaken || parts.length === 0 || parts.some((part) => part.startsWith(whiteout)))
      return undefined;
    let path = "";
    for (const [at, part] of parts.entries()) {
      path = at === 0 ? part : `${path}/${part}`;
      if (this.#taken.has(path) || (at < parts.length - 1 && this.#links.has(path))) return undefined;
    }
    return this.#folders.has(path) ? undefined : path;
  }

  /** Takes a whole layer for one that is above all to come. */
  cover(entries: readonly TarEntry[]): void {
    for (const entry of entries) {
      const parts = cleanPath(entry.name);
      const name = parts.at(-1);
      if (name === undefined) continue;
      const parent = parts.slice(0, -1);
      if (name === opaque) {
        if (parent.length === 0) this.#isRootTaken = true;
        else this.#taken.add(parent.join("/"));
      } else if (name.startsWith(whiteout)) this.#taken.add([...parent, name.slice(whiteout.length)].join("/"));
      else if (entry.type === "directory") this.#folders.add(parts.join("/"));
      else this.#taken.add(parts.join("/"));
    }
  }
}
