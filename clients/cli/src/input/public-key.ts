// SSH public keys from files: a private key must never leave the machine by mistake.
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { CliError } from "../failure.ts";

const maxBytes = 16_384;

/** The key line of a `.pub` file. Throws when the file holds anything else. */
export async function readPublicKey(file: string, folder: string): Promise<string> {
  const text = await readFile(resolve(folder, file), "utf8").catch((cause: unknown) => {
    throw new CliError(`the key file ${file} cannot be read`, { cause });
  });
  return publicKeyLine(text, file);
}

/** The one line of a key file's text. `file` is for the words of a refusal. */
export function publicKeyLine(text: string, file: string): string {
  if (/PRIVATE KEY/.test(text)) throw new CliError(`${file} holds a private key, which stays with you: give ${file}.pub`);
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "" && !line.startsWith("#"));
  const [line = "", ...more] = lines;
  if (text.length > maxBytes || more.length > 0)
    throw new CliError(`${file} holds more than one key: give a file with one line, such as ~/.ssh/id_ed25519.pub`);
  if (!/^(ssh|ecdsa|sk)-\S+ \S+/.test(line))
    throw new CliError(`${file} holds no SSH public key: give a file such as ~/.ssh/id_ed25519.pub`);
  return line.trim();
}
