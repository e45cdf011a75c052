// The folder of a user's sign-ins and keys: where it is, how files in it are replaced, and one writer at a time.
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { CliError } from "../failure.ts";

const lockWaitMs = 30_000;
const lockPollMs = 25;

/** `$XDG_CONFIG_HOME/pitwall`, where a relative value counts as unset (XDG base directory specification); else `~/.config/pitwall`. */
export function configFolder(env: Readonly<Record<string, string | undefined>>): string {
  const base = env["XDG_CONFIG_HOME"] ?? "";
  return join(isAbsolute(base) ? base : join(env["HOME"] || homedir(), ".config"), "pitwall");
}

/** The file's text; undefined when there is no such file. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new CliError(`${path} cannot be read`, { cause: error });
  });
}

/** Replaces a file as a whole, 0600, and makes its folder, 0700. */
export async function replaceFile(path: string, text: string): Promise<void> {
  await makePrivate(dirname(path));
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeFile(temporary, text, { mode: 0o600, flag: "wx", flush: true });
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new CliError(`${path} cannot be written`, { cause });
  }
}

/** Makes a folder that only its owner may enter. */
export async function makePrivate(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700);
  } catch (cause) {
    throw new CliError(`the folder ${folder} cannot be made`, { cause });
  }
}

/**
 * Waits until no other `pitwall` of this user changes the folder. A refresh token may be used once only, so two of them must not renew
 * a sign-in at the same time. The lock is an abstract socket, which the kernel frees when its process ends, however it ends.
 */
export async function lockFolder(folder: string, signal: AbortSignal): Promise<AsyncDisposable> {
  const digest = createHash("sha256")
    .update(`${process.getuid?.() ?? ""} ${folder}`)
    .digest("hex");
  const name = `\0pitwall-${digest.slice(0, 32)}`;
  const deadline = performance.now() + lockWaitMs;
  for (;;) {
    const server = createServer((socket) => socket.destroy());
    const isOurs = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false)).listen(name, () => resolve(true));
    });
    if (isOurs) return { [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
    if (performance.now() > deadline)
      throw new CliError(`another \`pitwall\` has kept ${folder} locked for too long: end it and try again`);
    await delay(lockPollMs, undefined, { signal });
  }
}
