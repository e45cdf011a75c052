// Tars for tests, byte by byte, so that they can be wrong on purpose. Shares no code with what it tests.
export interface TarSpec {
  /** Names and values are latin1: one character per byte. */
  readonly name: string;
  /** Type character; default "0", a file. */
  readonly flag?: string;
  readonly content?: Buffer;
  readonly linkname?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
  /** More pax records, after all others. */
  readonly pax?: readonly (readonly [string, string])[];
  /** Declared instead of the content's own size. */
  readonly size?: number;
  /** How names beyond 100 bytes are stored; default pax. */
  readonly longNames?: "pax" | "gnu";
}

const block = 512;

/** A whole archive with its end mark. */
export function tarOf(specs: readonly TarSpec[]): Buffer {
  return Buffer.concat([...specs.map(entryOf), Buffer.alloc(2 * block)]);
}

/** The blocks of one entry. */
export function entryOf(spec: TarSpec): Buffer {
  const { name, linkname = "", content = Buffer.alloc(0), uid = 0, gid = 0, mtime = 0, size = content.length } = spec;
  const before: Buffer[] = [];
  const records: (readonly [string, string])[] = [];
  if (spec.longNames === "gnu") {
    if (name.length > 100) before.push(extension("L", `${name}\0`));
    if (linkname.length > 100) before.push(extension("K", `${linkname}\0`));
  } else {
    if (name.length > 100) records.push(["path", name]);
    if (linkname.length > 100) records.push(["linkpath", linkname]);
  }
  if (uid > 0o7777777) records.push(["uid", String(uid)]);
  if (gid > 0o7777777) records.push(["gid", String(gid)]);
  if (mtime % 1 !== 0) records.push(["mtime", String(mtime)]);
  for (const [key, value] of Object.entries(spec.xattrs ?? {})) records.push([`SCHILY.xattr.${key}`, value]);
  records.push(...(spec.pax ?? []));
  if (records.length > 0) before.push(extension("x", records.map(([key, value]) => paxRecord(key, value)).join("")));
  return Buffer.concat([...before, headerOf({ ...spec, size }), content, Buffer.alloc((block - (content.length % block)) % block)]);
}

/** One header block with a right checksum. */
export function headerOf(spec: TarSpec): Buffer {
  const header = Buffer.alloc(block);
  const octal = (value: number, at: number, length: number): void => {
    const digits = Math.floor(value).toString(8);
    if (digits.length < length) header.write(digits.padStart(length - 1, "0"), at, "latin1");
    else {
      header[at] = 0x80; // base 256, for sizes no octal field holds
      header.writeBigUInt64BE(BigInt(Math.floor(value)), at + length - 8);
      if (length === 8) header[at] = 0x80;
    }
  };
  header.write(spec.name.slice(0, 100), 0, "latin1");
  octal(spec.mode ?? 0o644, 100, 8);
  octal(Math.min(spec.uid ?? 0, 0o7777777), 108, 8);
  octal(Math.min(spec.gid ?? 0, 0o7777777), 116, 8);
  octal(spec.size ?? spec.content?.length ?? 0, 124, 12);
  octal(spec.mtime ?? 0, 136, 12);
  header.write(`        ${spec.flag ?? "0"}`, 148, "latin1");
  header.write((spec.linkname ?? "").slice(0, 100), 157, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  octal(spec.devMajor ?? 0, 329, 8);
  octal(spec.devMinor ?? 0, 337, 8);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

/** A pax or GNU extension and its content. */
export function extension(flag: string, content: string): Buffer {
  const body = Buffer.from(content, "latin1");
  return Buffer.concat([
    headerOf({ name: "extension", flag, size: body.length }),
    body,
    Buffer.alloc((block - (body.length % block)) % block),
  ]);
}

/** `LENGTH KEY=VALUE\n`, the length counting itself. */
export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}
