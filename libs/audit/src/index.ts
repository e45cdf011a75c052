// The audit log's bytes, tree and proofs, the same for who writes it and who checks it.
export { entryHash, keyIdOf, signHead, type Entry, type SignedHead } from "./entry.ts";
export { append, rootOf, type Frontier, type Hash } from "./merkle.ts";
export { verifyExport, type ExportedEntry } from "./verify.ts";
