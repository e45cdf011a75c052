// One blob on its way to a registry (distribution-spec 1.1, "pushing a blob monolithically", "pushing a blob in chunks"). A small one goes
// whole, a large one in parts; after a cut the registry is asked what it has, and only the rest is sent.
// A session is: none -> sure (the registry has the first bytes up to our position) -> unsure (a request was cut or refused for now) -> sure.
// One that the registry does not know any more, or that goes nowhere, is given up for a new one.
import { Readable } from "node:stream";
import { BlobReader } from "./blob-reader.ts";
import type { PushableBlob } from "./pushable.ts";
import { drop, unreachable, type Change, type Reply } from "./transport.ts";

/** Of one part. Registries lose no more than this when a connection is cut; some of them keep parts only whole. */
export const defaultPartBytes = 32 * 2 ** 20;
/** Each begins with the blob's first byte. */
const maxSessions = 4;
const accepted = 202;

/** One request and its answer, whatever its status. `make` may be called again, when the registry wants a sign-in first. */
export type Send = (url: URL, make: () => Change) => Promise<Reply>;

export interface BlobUploadOptions {
  /** Where sessions begin. */
  readonly uploads: URL;
  readonly partBytes: number;
  readonly send: Send;
  /** Whether the registry has the blob. */
  readonly has: () => Promise<boolean>;
  readonly signal: AbortSignal;
}

/** What the registry said. After `isPart` there is more to send. */
export interface Step extends Reply {
  readonly isPart?: boolean;
}

export class BlobUpload implements Disposable {
  readonly #blob: PushableBlob;
  readonly #options: BlobUploadOptions;
  readonly #reader: BlobReader;
  #partBytes: number;
  /** The session's address; undefined when there is none. */
  #place: URL | undefined;
  /** Bytes that the registry has in the session. */
  #position = 0;
  #isSure = true;
  #sessions = 0;
  /** The registry takes no parts. */
  #isWhole = false;

  constructor(blob: PushableBlob, options: BlobUploadOptions) {
    this.#blob = blob;
    this.#options = options;
    this.#partBytes = options.partBytes;
    this.#reader = new BlobReader(blob, options.signal);
  }

  /** The next request, and whatever finding out what it has to be takes. Call it again after an error that passes or a busy answer. */
  async step(): Promise<Step> {
    if (this.#place !== undefined && !this.#isSure) {
      const before = this.#position;
      const reply = await this.#ask(this.#place);
      if (reply !== undefined) return reply;
      if (this.#position > before) return more(accepted);
      if (this.#place === undefined && (await this.#options.has())) return more(201, false); // only the answer was lost
    }
    if (this.#place === undefined) {
      const refusal = await this.#begin();
      if (refusal !== undefined) return refusal;
    }
    const place = this.#place;
    if (place === undefined) throw unreachable(this.#options.uploads.host, new Error("it names no address for a blob"));
    const isOnePiece = this.#position === 0 && (this.#isWhole || this.#blob.sizeBytes <= this.#partBytes);
    return isOnePiece || this.#position === this.#blob.sizeBytes ? this.#finish(place) : this.#sendPart(place);
  }

  [Symbol.dispose](): void {
    this.#reader.close();
  }

  /** A refusal, or undefined when a session has begun. */
  async #begin(): Promise<Reply | undefined> {
    const { uploads, send } = this.#options;
    if (this.#sessions++ === maxSessions)
      throw unreachable(uploads.host, new Error(`it lost ${maxSessions} uploads of ${this.#blob.digest}`));
    const reply = await send(uploads, () => ({ method: "POST", headers: { "content-length": "0" }, body: undefined }));
    if (reply.status !== accepted) return reply;
    drop(reply);
    this.#move(reply, uploads);
    const least = Number(reply.headers["oci-chunk-min-length"]);
    if (least > this.#partBytes) this.#partBytes = least;
    this.#position = 0;
    this.#isSure = true;
    return undefined;
  }

  /** Learns what the registry has, or that it has no such session. An answer that decides neither is returned. */
  async #ask(place: URL): Promise<Reply | undefined> {
    const reply = await this.#options.send(place, () => ({ method: "GET", headers: {}, body: undefined }));
    if (reply.status === 429 || reply.status >= 500) return reply;
    drop(reply);
    const has = reply.status >= 200 && reply.status < 300 ? receivedBytes(reply) : undefined;
    // `0-0` may be one byte or none.
    if (has === undefined || has <= 1 || has > this.#blob.sizeBytes || this.#isWhole) return this.#giveUp();
    this.#move(reply, place);
    this.#position = has;
    this.#isSure = true;
    return undefined;
  }

  #giveUp(): undefined {
    this.#place = undefined;
    this.#position = 0;
  }

  async #sendPart(place: URL): Promise<Step> {
    const from = this.#position;
    const count = Math.min(this.#partBytes, this.#blob.sizeBytes - from);
    const reply = await this.#sendBytes("PATCH", place, from, count, { "content-range": `${from}-${from + count - 1}` });
    if (reply.status === accepted || reply.status === 204) {
      drop(reply);
      this.#move(reply, place);
      this.#position = Math.min(receivedBytes(reply) ?? from + count, from + count);
      this.#isSure = true;
      if (this.#position <= from) this.#giveUp();
      return more(accepted);
    }
    // Another place to go on from than ours.
    if (reply.status === 416) {
      drop(reply);
      const refusal = await this.#ask(place);
      if (refusal !== undefined) return refusal;
      if (this.#position === from) this.#giveUp();
      return more(accepted);
    }
    const isForUs = reply.status === 401 || reply.status === 403 || reply.status === 429;
    if (reply.status < 400 || reply.status >= 500 || isForUs || this.#isWhole) return reply;
    // Not every registry knows parts; what it says to the whole blob is what counts.
    drop(reply);
    this.#isWhole = true;
    this.#giveUp();
    return more(accepted);
  }

  /** The last request, with all of the blob that is missing. */
  async #finish(place: URL): Promise<Reply> {
    const last = new URL(place);
    last.searchParams.set("digest", this.#blob.digest);
    return this.#sendBytes("PUT", last, this.#position, this.#blob.sizeBytes - this.#position, {});
  }

  async #sendBytes(
    method: "PATCH" | "PUT",
    url: URL,
    from: number,
    count: number,
    headers: Readonly<Record<string, string>>,
  ): Promise<Reply> {
    this.#isSure = false;
    const described = { ...headers, "content-type": "application/octet-stream", "content-length": String(count) };
    const bodies: Readable[] = [];
    let reply: Reply | undefined;
    try {
      reply = await this.#options.send(url, () => {
        if (count === 0) return { method, headers: described, body: undefined };
        if (bodies.length > 0) this.#reader.close(); // the one before it may have taken some
        bodies.push(Readable.from(this.#reader.part(from, count), { objectMode: false })); // no encoding is set
        return { method, headers: described, body: bodies.at(-1) };
      });
      return reply;
    } finally {
      for (const body of bodies) body.destroy();
      if (reply?.status !== accepted) this.#reader.close();
    }
  }

  /** The session goes on where the answer says, if it does. */
  #move({ headers: { location } }: Reply, from: URL): void {
    if (location !== undefined && URL.canParse(location, from)) this.#place = new URL(location, from);
  }
}

/** Bytes from the first on; undefined when the answer does not say. */
function receivedBytes({ headers }: Reply): number | undefined {
  const end = /^(?:bytes=)?0-(\d{1,15})$/.exec(String(headers["range"] ?? ""))?.[1];
  return end === undefined ? undefined : Number(end) + 1;
}

/** A step of which nothing is left to read. */
function more(status: number, isPart = true): Step {
  return { status, headers: {}, body: Readable.from([]), host: "", isPart };
}
