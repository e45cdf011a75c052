// The smallest program that a kernel starts: for guests whose boot is all that is of interest.

const base = 0x400000;
const headers = 64 + 56;

/** A static ELF for x86-64 of one segment, readable and executable. `code` is given the address that its first byte will have. */
export function staticElf(code: (address: number) => Buffer): Buffer {
  const content = code(base + headers);
  const elf = Buffer.alloc(headers);
  elf.write("\x7fELF\x02\x01\x01", 0, "latin1");
  elf.writeUInt16LE(2, 16); // executable
  elf.writeUInt16LE(62, 18); // x86-64
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(BigInt(base + headers), 24); // entry
  elf.writeBigUInt64LE(64n, 32); // program headers
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(1, 64); // PT_LOAD
  elf.writeUInt32LE(5, 68); // readable, executable
  elf.writeBigUInt64LE(BigInt(base), 80);
  elf.writeBigUInt64LE(BigInt(base), 88);
  elf.writeBigUInt64LE(BigInt(headers + content.length), 96);
  elf.writeBigUInt64LE(BigInt(headers + content.length), 104);
  elf.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([elf, content]);
}
