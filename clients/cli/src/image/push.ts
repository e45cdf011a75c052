// Sends an image from this machine to a registry, with the sign-in of `docker login`.
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { parseDockerConfig, pushImage, type Pushed } from "@pitwall/oci";
import { PitwallError, systemClock } from "@pitwall/runtime";
import { CliError } from "../failure.ts";

export interface PushRequest {
  /** Absolute. */
  readonly path: string;
  /** Of several images at the path. */
  readonly tag: string | undefined;
  readonly name: string;
  /** The registry speaks plain HTTP. */
  readonly insecure: boolean;
  /** Of a PEM file with certificate authorities besides the public ones. */
  readonly caFile: string | undefined;
}

const all = { has: () => true };
const none = new Set<string>();

/** Throws a sentence. */
export async function push(
  { path, tag, name, insecure, caFile }: PushRequest,
  env: Readonly<Record<string, string | undefined>>,
  onBlob: (digest: string, sizeBytes: number) => void,
  signal: AbortSignal,
): Promise<Pushed> {
  const config = join(env["DOCKER_CONFIG"] || join(env["HOME"] || homedir(), ".docker"), "config.json");
  const signIns = await readFile(config, "utf8").catch(() => "{}");
  const host = name.split("/")[0] ?? "";
  try {
    const options = {
      insecureHosts: insecure ? new Set([host]) : none,
      privateHosts: all, // it is the user's own network
      certificates: caFile === undefined ? undefined : await readFile(caFile, "utf8"),
      credentialsFor: parseDockerConfig(signIns),
      clock: systemClock,
      onBlob,
    };
    return await pushImage(path, tag, name, options, signal);
  } catch (error) {
    if (error instanceof PitwallError) throw new CliError(error.message, { cause: error });
    throw error;
  }
}
