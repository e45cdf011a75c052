// What has gone up of a call's requests, for as long as it may have to go up again: an upstream that refuses a call (REFUSED_STREAM, or a goodbye
// that leaves it out, which Node tells alike) has taken nothing of it (RFC 9113 section 8.7). Once, and not of long requests.
const maxBytes = 64 * 1024;

export class Sent {
  #pieces: Buffer[] | undefined = [];
  #bytes = 0;

  add(piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#bytes > maxBytes) this.#pieces = undefined;
    // A piece of what was read at once for many calls would keep all of it.
    else this.#pieces?.push(2 * piece.length < piece.buffer.byteLength ? Buffer.from(piece) : piece);
  }

  /** All of it, once; undefined when it may not be said again. */
  take(): readonly Buffer[] | undefined {
    const all = this.#pieces;
    this.#pieces = undefined;
    return all;
  }
}
