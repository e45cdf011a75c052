// SSH's data types (RFC 4251, section 5), as much of them as keys and certificates need.
import { PitwallError } from "@pitwall/runtime";

/** Reads one after the other. Throws `invalid` where the bytes end too early. */
export class SshReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get at(): number {
    return this.#at;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  string(): Buffer {
    return this.#take(this.uint32());
  }

  uint32(): number {
    return this.#take(4).readUInt32BE();
  }

  uint64(): bigint {
    return this.#take(8).readBigUInt64BE();
  }

  #take(length: number): Buffer {
    if (length > this.#bytes.length - this.#at)
      throw new PitwallError("invalid", "the certificate ends too early", { reason: "BAD_CERTIFICATE" });
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

export function sshUint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function sshUint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
