// A key for one call of ssh, with a certificate that opens one VM to it for some minutes: nothing of it lasts.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PitwallRpcError, type Vm } from "@pitwall/sdk";
import { makePrivate } from "../account/config-folder.ts";
import type { Session } from "../account/session.ts";
import { runQuietly } from "../child.ts";
import { checkedVm } from "./places.ts";

/** Disposing it removes the key. */
export interface CertifiedKey extends AsyncDisposable {
  /** Of the private key; ssh finds the certificate beside it. */
  readonly file: string;
}

/** Undefined when the installation is older than its certificates. `folder` is the config folder. */
export async function certifiedKey(folder: string, { pitwall }: Session, vm: Vm): Promise<CertifiedKey | undefined> {
  await makePrivate(join(folder, "ssh"));
  const dir = await mkdtemp(join(folder, "ssh", "once-"));
  await using parts = new AsyncDisposableStack();
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const file = join(dir, "id_ed25519");
  await runQuietly("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "pitwall", "-f", file]);
  const publicKey = await readFile(`${file}.pub`, "utf8");
  try {
    const { certificate } = await pitwall.vms.issueSshCertificate(checkedVm(vm).id, publicKey.trim());
    await writeFile(`${file}-cert.pub`, `${certificate}\n`, { mode: 0o600 });
  } catch (error) {
    if (error instanceof PitwallRpcError && error.code === "UNIMPLEMENTED") return undefined;
    throw error;
  }
  const kept = parts.move();
  return { file, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
