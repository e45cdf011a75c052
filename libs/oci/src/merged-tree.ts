// The file tree that layers make, in memory: names and attributes, and for content only where it is stored.
// Layers are applied lowest first, entries in order, as an unpacking tool would; a whiteout touches lower layers only.
import { malformed } from "./image-error.ts";
import { tooLarge, type Budget } from "./limits.ts";
import type { TarEntry } from "./tar-header.ts";

/** A file's content and attributes. Hard links are several paths of one. */
export interface Inode {
  readonly entry: TarEntry;
  readonly layer: number;
  /** Position of the entry in its layer: entries before it. */
  readonly ordinal: number;
  /** Position of the content in its layer: bytes before it. */
  readonly offset: number;
}

interface Folder {
  entry: TarEntry;
  readonly children: Map<string, Node>;
  /** The last layer that named it. */
  layer: number;
  /** The last layer whose whiteout emptied it: nothing lower is left to look for. */
  clearedBy: number;
}
interface Leaf extends Inode {
  /** The layer that put this name here; with a hard link, not the layer of the content. */
  readonly placedBy: number;
}
type Node = Folder | Leaf;

export const whiteout = ".wh.";
export const opaque = ".wh..wh..opq";
const maxLinkHops = 40;
const maxNameBytes = 255;

const isFolder = (node: Node | undefined): node is Folder => node !== undefined && "children" in node;
const implicitFolder: TarEntry = {
  name: "",
  type: "directory",
  linkname: "",
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  size: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
};

/** The tree so far. `apply` throws `corrupt` for entries no tool could unpack and `exhausted` beyond the budget. */
export class MergedTree {
  readonly #budget: Budget;
  readonly #root: Folder = { entry: implicitFolder, children: new Map(), layer: -1, clearedBy: -1 };

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Takes the next entry of `layer`. */
  apply(entry: TarEntry, layer: number, at: { readonly ordinal: number; readonly offset: number }): void {
    this.#budget.takeEntry(entry);
    const parts = cleanPath(entry.name);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== "directory") throw malformed("a layer makes the root something else than a folder");
      this.#root.entry = nameless(entry);
      return;
    }
    if (name === opaque) {
      const folder = this.#find(parts);
      if (folder !== undefined) clear(folder, layer);
      return;
    }
    // Other names of this kind are bookkeeping of one old storage driver.
    if ([...parts, name].some((part) => part.startsWith(".wh..wh."))) return;
    if (name.startsWith(whiteout)) return this.#hide(parts, name.slice(whiteout.length), layer);
    if (name.length > maxNameBytes) throw malformed(`a layer holds a name of ${name.length} bytes; the limit is ${maxNameBytes}`);
    const parent = this.#make(parts, layer);
    const existing = parent.children.get(name);
    if (entry.type === "directory") {
      if (isFolder(existing)) {
        existing.entry = nameless(entry);
        existing.layer = layer;
      } else parent.children.set(name, { entry: nameless(entry), children: new Map(), layer, clearedBy: layer });
    } else if (entry.type === "link") {
      const target = this.#linkTarget(entry);
      parent.children.set(name, { ...target, placedBy: layer });
    } else parent.children.set(name, { entry: nameless(entry), layer, ordinal: at.ordinal, offset: at.offset, placedBy: layer });
  }

  /** Every path, parents before children, names in byte order. Paths have no leading `/`; the root's is empty. */
  *walk(): Generator<{ path: string; node: { entry: TarEntry } | Inode }> {
    const pending: { path: string; node: Node }[] = [{ path: "", node: this.#root }];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      yield next;
      if (!isFolder(next.node)) continue;
      const { path, node } = next;
      const names = [...node.children.keys()].toSorted().toReversed();
      for (const name of names) {
        const child = node.children.get(name);
        if (child !== undefined) pending.push({ path: path === "" ? name : `${path}/${name}`, node: child });
      }
    }
  }

  #linkTarget(entry: TarEntry): Leaf {
    const parts = cleanPath(entry.linkname);
    const name = parts.pop();
    const target = name === undefined ? this.#root : this.#find(parts)?.children.get(name);
    if (target === undefined) throw malformed(`hard link ${show(entry.name)} points at ${show(entry.linkname)}, which is not there`);
    if (isFolder(target)) throw malformed(`hard link ${show(entry.name)} points at a folder`);
    return target;
  }

  #hide(parts: readonly string[], name: string, layer: number): void {
    if (name === "" || name === "." || name === "..") throw malformed("a layer holds a whiteout of no file");
    const parent = this.#find(parts);
    const child = parent?.children.get(name);
    if (parent !== undefined && child !== undefined && !keep(child, layer)) parent.children.delete(name);
  }

  /** The folder at `parts`, symbolic links followed inside the tree; undefined when there is none. */
  #find(parts: readonly string[]): Folder | undefined {
    return this.#descend(parts, undefined);
  }

  /** The folder at `parts`, made where missing; a file in the way gives way. */
  #make(parts: readonly string[], layer: number): Folder {
    return this.#descend(parts, layer) ?? this.#root;
  }

  #descend(parts: readonly string[], makeFor: number | undefined): Folder | undefined {
    const stack: Folder[] = [this.#root];
    const pending = parts.toReversed();
    let hops = 0;
    for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        if (stack.length > 1) stack.pop();
        continue;
      }
      const folder = stack.at(-1) ?? this.#root;
      let child = folder.children.get(part);
      if (child !== undefined && !isFolder(child) && child.entry.type === "symlink") {
        if (++hops > maxLinkHops) throw malformed(`a path goes through more than ${maxLinkHops} symbolic links`);
        const target = child.entry.linkname;
        if (target.startsWith("/")) stack.length = 1;
        pending.push(...target.split("/").toReversed());
        continue;
      }
      if (!isFolder(child)) {
        if (makeFor === undefined) return undefined;
        if (part.length > maxNameBytes) throw malformed(`a layer holds a name of ${part.length} bytes; the limit is ${maxNameBytes}`);
        this.#budget.takeEntry(implicitFolder);
        child = { entry: implicitFolder, children: new Map(), layer: makeFor, clearedBy: makeFor };
        folder.children.set(part, child);
      }
      if (stack.push(child) > this.#budget.limits.maxDepth) throw tooLarge(`has folders more than ${this.#budget.limits.maxDepth} deep`);
    }
    return stack.at(-1);
  }
}

/** Removes what is lower than `layer` from a folder. */
function clear(folder: Folder, layer: number): void {
  if (folder.clearedBy === layer) return;
  folder.clearedBy = layer;
  for (const [name, child] of folder.children) if (!keep(child, layer)) folder.children.delete(name);
}

/** Whether something of a node is left once all below `layer` is taken away. */
function keep(node: Node, layer: number): boolean {
  if (!isFolder(node)) return node.placedBy === layer;
  clear(node, layer);
  if (node.layer === layer) return true;
  if (node.children.size === 0) return false;
  // Its own entry is gone; this layer's files below it still need a folder.
  node.entry = implicitFolder;
  node.layer = layer;
  return true;
}

/** The parts of a name, with `.`, `..` and leading slashes resolved as if the root were `/`. */
export function cleanPath(name: string): string[] {
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") parts.pop();
    else parts.push(part);
  }
  return parts;
}

const nameless = (entry: TarEntry): TarEntry => ({ ...entry, name: "" });
const show = (latin1: string): string => JSON.stringify(Buffer.from(latin1.slice(0, 200), "latin1").toString("utf8"));
