// Stacks of layers that try what builders of images do, and what they should not. The same seed makes the same stack.
import type { TarSpec } from "./tar-writer.ts";

type Kind = "file" | "directory" | "symlink" | "link" | "device" | "fifo";

/** Numbers in [0, 1) from a seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const modes = [0o644, 0o755, 0o600, 0o4755, 0o2755, 0o1777, 0o000, 0o7777, 0o111, 0o4711] as const;
/** Without the setgid bit, which the host's kernel would hand down to folders that no layer names. */
const folderModes = [0o755, 0o700, 0o1777, 0o000, 0o5711, 0o111] as const;
const owners = [0, 1, 1000, 65534, 2_097_151, 2_097_152, 3_000_000_000] as const;
const capability = "\x01\x00\x00\x02\x00\x24\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
const attributes: readonly (readonly [string, string])[] = [
  ["user.one", "1"],
  ["user.bytes", "\x00\xff\n=\x80"],
  ["user.long", "v".repeat(300)],
  ["trusted.two", "2"],
];

/** 2 to 5 layers, lowest first. */
export function randomStack(seed: number): TarSpec[][] {
  const random = randomFrom(seed);
  const stack = new Stack(random);
  return Array.from({ length: 2 + Math.floor(random() * 4) }, () => stack.layer());
}

/** What is known of the tree so far, so that most entries make sense. */
class Stack {
  readonly #random: () => number;
  readonly #known = new Map<string, Kind>();
  /** Symbolic links that lead to a folder. */
  readonly #ways = new Map<string, string>();
  /** What this layer's hard links and links in folders need: a layer that also hides it says two things at once. */
  readonly #linked = new Set<string>();
  /** What this layer placed, which its own whiteouts do not hide. */
  readonly #placed = new Set<string>();
  /** Symbolic links of lower layers: whiteouts below one mean another folder once this layer replaces it. */
  #lowerLinks: readonly string[] = [];
  readonly #names: string[];

  constructor(random: () => number) {
    this.#random = random;
    this.#names = [
      "a",
      "b",
      "c",
      "d",
      "bin",
      "x".repeat(120),
      "n".repeat(255),
      "é\xff\xfe".slice(1),
      "sp ace",
      "-dash",
      ".hidden",
      'quo"te\\n',
    ];
  }

  layer(): TarSpec[] {
    const specs: TarSpec[] = [];
    this.#linked.clear();
    this.#placed.clear();
    this.#lowerLinks = this.#of("symlink");
    if (this.#chance(0.2)) specs.push({ name: "./", flag: "5", mode: this.#pick([0o755, 0o700, 0o1777]), uid: this.#pick([0, 7]) });
    const count = 3 + Math.floor(this.#random() * 14);
    for (let at = 0; at < count; at++) specs.push(...this.#entry());
    const again = specs.filter(({ name, flag }) => {
      const known = this.#known.get(name.replace(/^\.{0,2}\//, "").replace(/\/$/, ""));
      return (flag === "0" && known === "file") || (flag === "5" && known === "directory");
    });
    if (this.#chance(0.3)) specs.push(...again.slice(0, 3));
    return specs;
  }

  #entry(): TarSpec[] {
    const roll = this.#random();
    if (roll < 0.14) return this.#whiteout();
    if (roll < 0.18) return this.#opaque();
    const path = this.#path();
    if (path === undefined) return [];
    if (roll < 0.36) return [this.#place(path, "directory", { flag: "5", mode: this.#pick(folderModes), ...this.#attributes(0.2) })];
    if (roll < 0.48) return this.#symlink(path);
    if (roll < 0.62) return this.#link(path);
    if (roll < 0.67) return [this.#place(path, "device", this.#device())];
    return [this.#place(path, "file", { flag: "0", content: this.#content(), mode: this.#pick(modes), ...this.#attributes(0.25) })];
  }

  #whiteout(): TarSpec[] {
    const path = this.#pick([...this.#known.keys()]);
    if (path === undefined || this.#isAmbiguous(path)) return [];
    const slash = path.lastIndexOf("/") + 1;
    if (path.length - slash > 250) return [];
    this.#hide(path);
    return [{ name: `${path.slice(0, slash)}.wh.${path.slice(slash)}`, flag: "0", mode: 0 }];
  }

  #opaque(): TarSpec[] {
    const folder = this.#pick(this.#of("directory"));
    if (folder === undefined || this.#lowerLinks.includes(folder) || this.#isAmbiguous(folder)) return [];
    for (const path of [...this.#known.keys()]) if (path.startsWith(`${folder}/`)) this.#hide(path);
    const mark: TarSpec = { name: `${folder}/.wh..wh..opq`, flag: "0" };
    return this.#chance(0.5) ? [mark] : [{ name: folder, flag: "5", mode: this.#pick(folderModes) }, mark];
  }

  #symlink(path: string): TarSpec[] {
    const folder = this.#chance(0.5) ? this.#pick(this.#of("directory")) : undefined;
    const target =
      folder === undefined
        ? this.#pick(["nowhere", "../../../../etc/passwd", "/etc/passwd", "a", ".", "t".repeat(150)])
        : this.#chance(0.5)
          ? `/${folder}`
          : `${"../".repeat(path.split("/").length - 1)}${folder}`;
    const spec = this.#place(path, "symlink", { flag: "2", linkname: target ?? "a", mode: 0o777 });
    if (folder !== undefined && folder !== path && !folder.startsWith(`${path}/`)) this.#ways.set(path, folder);
    return [spec];
  }

  #link(path: string): TarSpec[] {
    const target = this.#pick(this.#of("file"));
    if (target === undefined || target === path || target.startsWith(`${path}/`)) return [];
    this.#linked.add(target);
    const prefix = this.#pick(["", "/", "./"]) ?? "";
    return [
      this.#place(
        path,
        "link",
        { flag: "1", linkname: prefix + target, ...(this.#chance(0.3) && { size: 0, mode: this.#pick(modes) }) },
        "file",
      ),
    ];
  }

  #device(): Omit<TarSpec, "name"> {
    const kind = this.#pick(["3", "4", "6"]) ?? "6";
    return {
      flag: kind,
      mode: this.#pick(modes),
      ...(kind !== "6" && { devMajor: this.#pick([1, 7, 259]), devMinor: this.#pick([3, 0, 300]) }),
    };
  }

  #place(path: string, kind: Kind, rest: Omit<TarSpec, "name">, as: Kind = kind): TarSpec {
    if (!(kind === "directory" && this.#known.get(path) === "directory")) this.#forget(path);
    this.#known.set(path, as);
    this.#placed.add(path);
    const parts = path.split("/");
    for (let at = 1; at < parts.length; at++) {
      const folder = parts.slice(0, at).join("/");
      if (!this.#known.has(folder)) this.#known.set(folder, "directory");
      this.#placed.add(folder);
    }
    const written =
      this.#pick(["", "", "", "./", "/", "../"]) + this.#through(path) + (kind === "directory" && this.#chance(0.5) ? "/" : "");
    const mtime = this.#pick([0, 1_600_000_000, 1_700_000_000, 1_234_567_890]);
    return {
      uid: this.#pick(owners),
      gid: this.#pick(owners),
      mtime,
      longNames: this.#chance(0.5) ? "gnu" : "pax",
      ...rest,
      name: written,
    };
  }

  /** The path, perhaps by way of a symbolic link to one of its folders. */
  #through(path: string): string {
    for (const [way, folder] of this.#ways) {
      if (!path.startsWith(`${folder}/`) || !this.#chance(0.4)) continue;
      this.#linked.add(way).add(path);
      return `${way}${path.slice(folder.length)}`;
    }
    return path;
  }

  /** Often one that is known, else a new one in a folder that is. */
  #path(): string | undefined {
    if (this.#chance(0.4)) return this.#pick([...this.#known.keys()]);
    const folders = this.#of("directory").filter((path) => path.split("/").length < 5);
    const folder = this.#chance(0.3) ? undefined : this.#pick(folders);
    const fresh = this.#chance(0.15) ? [this.#pick(this.#names), this.#pick(this.#names)].join("/") : (this.#pick(this.#names) ?? "a");
    const path = folder === undefined ? fresh : `${folder}/${fresh}`;
    const parts = path.split("/");
    const isBlocked = parts.some((_, at) => at > 0 && !["directory", undefined].includes(this.#known.get(parts.slice(0, at).join("/"))));
    return isBlocked || path.length > 1500 ? undefined : path;
  }

  #content(): Buffer {
    const size = this.#pick([0, 1, 10, 511, 512, 513, 5000, 140_000]) ?? 0;
    return Buffer.alloc(size, String.fromCharCode(97 + Math.floor(this.#random() * 26)));
  }

  #attributes(chance: number): { xattrs?: Record<string, string> } {
    if (!this.#chance(chance)) return {};
    const chosen = attributes.filter(() => this.#chance(0.5));
    return { xattrs: Object.fromEntries([...chosen, ...(this.#chance(0.3) ? [["security.capability", capability] as const] : [])]) };
  }

  #isAmbiguous(path: string): boolean {
    const isBelowLink = this.#lowerLinks.some((link) => path.startsWith(`${link}/`));
    return isBelowLink || [...this.#linked].some((target) => target === path || target.startsWith(`${path}/`));
  }

  #hide(path: string): void {
    const below = [...this.#known.keys()].filter((known) => known === path || known.startsWith(`${path}/`));
    for (const known of below) if (!this.#placed.has(known)) this.#forget(known);
  }

  #forget(path: string): void {
    for (const known of this.#known.keys()) {
      if (known !== path && !known.startsWith(`${path}/`)) continue;
      this.#known.delete(known);
      this.#ways.delete(known);
      for (const [way, folder] of this.#ways) if (folder === known) this.#ways.delete(way);
    }
  }

  #of(kind: Kind): string[] {
    return [...this.#known].filter(([, is]) => is === kind).map(([path]) => path);
  }

  #pick<T>(from: readonly [T, ...T[]]): T;
  #pick<T>(from: readonly T[]): T | undefined;
  #pick<T>(from: readonly T[]): T | undefined {
    return from[Math.floor(this.#random() * from.length)];
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }
}
