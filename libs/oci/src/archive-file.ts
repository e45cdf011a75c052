// A tar file on disk, whose members are read in place: it is indexed once and never unpacked.
import { createReadStream } from "node:fs";
import { constants, open, type FileHandle } from "node:fs/promises";
import { posix } from "node:path";
import { Readable } from "node:stream";
import { maxDocumentBytes } from "./documents.ts";
import { imageNotFound, malformed, unsupported } from "./image-error.ts";
import type { LayerDescriptor } from "./image.ts";
import { readTar } from "./tar-reader.ts";

/** Content inside the tar file, in bytes. */
interface Extent {
  readonly offset: number;
  readonly size: number;
}

const maxMembers = 100_000;
const maxLinkHops = 8;
const chunkBytes = 64 * 1024;

/** The members of one tar. Names have no leading `/` or `./`; a link stands for what it names. */
export class ArchiveFile {
  readonly #path: string;
  readonly #members: ReadonlyMap<string, Extent | string>;

  private constructor(path: string, members: ReadonlyMap<string, Extent | string>) {
    this.#path = path;
    this.#members = members;
  }

  /** Reads the headers of the file at `path`. Throws `not-found`, `unsupported` (compressed) and `corrupt`. */
  static async open(path: string, reference: string): Promise<ArchiveFile> {
    const file = await openRegular(path, reference);
    const source = file.createReadStream({ highWaterMark: chunkBytes });
    const members = new Map<string, Extent | string>();
    try {
      const compression = compressionOf(await headOf(file));
      if (compression !== "none") throw unsupported(`the archive is compressed with ${compression}; unpack it once and name the plain tar`);
      // No encoding is set, so chunks are buffers.
      for await (const { entry, offset } of readTar(source as AsyncIterable<Buffer>)) {
        const name = cleanName(entry.name);
        if (members.size >= maxMembers) throw malformed(`the archive has more than ${maxMembers} entries`);
        if (entry.type === "file") members.set(name, { offset, size: entry.size });
        else if (entry.type === "link") members.set(name, cleanName(entry.linkname));
        else if (entry.type === "symlink") members.set(name, posix.join(posix.dirname(name), bytesAsText(entry.linkname)));
      }
    } finally {
      source.destroy();
    }
    return new ArchiveFile(path, members);
  }

  /** Bytes of a member; undefined when there is none. */
  sizeOf(name: string): number | undefined {
    return this.#find(name)?.size;
  }

  /** A small member, whole; undefined when there is none. Throws `corrupt` beyond `maxDocumentBytes`. */
  async document(name: string): Promise<Buffer | undefined> {
    const size = this.sizeOf(name);
    if (size === undefined) return undefined;
    if (size > maxDocumentBytes) throw malformed(`an image document has ${size} bytes; the limit is ${maxDocumentBytes}`);
    const parts: Buffer[] = [];
    for await (const chunk of this.stream(name)) parts.push(chunk as Buffer); // as above
    return Buffer.concat(parts);
  }

  /** The content of a member. Throws `corrupt` when there is none. */
  stream(name: string): Readable {
    const extent = this.#find(name);
    if (!extent) throw malformed("the archive lacks a part of the image");
    if (extent.size === 0) return Readable.from([]);
    return createReadStream(this.#path, { start: extent.offset, end: extent.offset + extent.size - 1, highWaterMark: chunkBytes });
  }

  /** How a member is compressed, judged by its first bytes. */
  async compressionOf(name: string): Promise<LayerDescriptor["compression"]> {
    const extent = this.#find(name);
    if (!extent || extent.size < 4) return "none";
    for await (const chunk of createReadStream(this.#path, { start: extent.offset, end: extent.offset + 3 }))
      return compressionOf(chunk as Buffer); // as above
    return "none";
  }

  #find(name: string): Extent | undefined {
    let found = this.#members.get(name);
    for (let hops = 0; typeof found === "string" && hops < maxLinkHops; hops++) found = this.#members.get(found);
    return typeof found === "string" ? undefined : found;
  }
}

/** Opens what is a plain file; anything else could block, or never end. Throws `not-found`. */
export async function openRegular(path: string, reference: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (file && (await file.stat()).isFile()) return file;
  await file?.close();
  throw imageNotFound(reference, "there is no such file, or it lacks a part of the image");
}

async function headOf(file: FileHandle): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return buffer.subarray(0, bytesRead);
}

function compressionOf(head: Buffer): LayerDescriptor["compression"] {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  return head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528 ? "zstd" : "none";
}

const bytesAsText = (latin1: string): string => Buffer.from(latin1, "latin1").toString("utf8");
const cleanName = (latin1: string): string => bytesAsText(latin1).replace(/^(?:\.?\/)+/, "");
