// The SSH key of this user on this machine: made when first needed, and made known to the gateway's side before each use.
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { PitwallRpcError } from "@pitwall/sdk";
import { lockFolder, makePrivate, readIfThere } from "../account/config-folder.ts";
import type { Session } from "../account/session.ts";
import { runQuietly } from "../child.ts";

/** The file of a private key that the profile of the session's user holds. `folder` is the config folder. */
export async function ownKey(folder: string, session: Session, signal: AbortSignal): Promise<string> {
  const usual = join(folder, "ssh", "id_ed25519");
  try {
    await session.pitwall.addSshKey(await publicKeyOf(usual, folder, signal));
    return usual;
  } catch (error) {
    if (!(error instanceof PitwallRpcError && error.reason === "KEY_TAKEN")) throw error;
  }
  // Somebody else has signed in from this machine before: this account gets a key of its own.
  const { subject } = await session.pitwall.getProfile();
  const digest = createHash("sha256").update(`${session.endpoint} ${subject}`).digest("hex").slice(0, 16);
  const own = `${usual}-${digest}`;
  await session.pitwall.addSshKey(await publicKeyOf(own, folder, signal));
  return own;
}

async function publicKeyOf(file: string, folder: string, signal: AbortSignal): Promise<string> {
  const known = await readIfThere(`${file}.pub`);
  if (known !== undefined) return known;
  await using _lock = await lockFolder(folder, signal);
  const made = await readIfThere(`${file}.pub`); // by another process, meanwhile
  if (made !== undefined) return made;
  await makePrivate(join(folder, "ssh"));
  await rm(file, { force: true }); // half of a pair is worth nothing
  await runQuietly("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "pitwall", "-f", file]);
  return (await readIfThere(`${file}.pub`)) ?? "";
}
