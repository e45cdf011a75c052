// -i: a private key of the user's own choice.
import { access, constants } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "commander";
import { CliError } from "../failure.ts";

export interface KeyOption {
  readonly identity?: string;
}

/** Declares -i on a command. */
export function withKey(command: Command): Command {
  return command.option(
    "-i, --identity <file>",
    "a private key of your own, which your profile must know (default: a key of Pitwall's own)",
  );
}

/** The key's file; undefined when none was chosen. Throws when it cannot be read, which ssh would only mention in passing. */
export async function chosenKey({ identity }: KeyOption, folder: string): Promise<string | undefined> {
  if (identity === undefined) return undefined;
  const file = resolve(folder, identity);
  await access(file, constants.R_OK).catch((cause: unknown) => {
    throw new CliError(`the key file ${identity} cannot be read`, { cause });
  });
  return file;
}
