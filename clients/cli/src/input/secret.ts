// A secret from stdin: typed without an echo, or the first line of what is piped in. Never from a flag, which everybody can read.
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { usageError } from "../failure.ts";
import type { Shell } from "../shell.ts";

/** Throws a usage error when there is none. */
export async function readSecret(shell: Shell, { isPiped, prompt }: { isPiped: boolean; prompt: string }): Promise<string> {
  const { stdin } = process;
  if (!isPiped && !stdin.isTTY) throw usageError("stdin is no terminal: give --password-stdin to read the password from it");
  if (!isPiped) shell.err(prompt);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: silent, terminal: !isPiped });
  try {
    for await (const line of lines) {
      if (!isPiped) shell.err("\n");
      if (line !== "") return line;
      break;
    }
    throw usageError("the secret is empty");
  } finally {
    lines.close();
  }
}
