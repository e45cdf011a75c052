// A registry that others wrote, behind a password, with one image in it.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pushImage } from "@pitwall/oci";
import { systemClock } from "@pitwall/runtime";
import { startDockerRegistry } from "../../../../libs/oci/tests/support/docker-registry.ts";
import { writeLayout } from "./layout.ts";

export const username = "alice";
export const password = "right horse";
/** bcrypt of the password, which is the only form that the registry takes. */
const htpasswd = "alice:$2b$05$Lb2S7aqA1TA5GI.Su8ap8uIeJOyLOJU9ozANcB2FvT58H8iQYXcZ2\n";

export interface PrivateRegistry extends AsyncDisposable {
  readonly host: string;
  readonly image: string;
}

/** Speaks plain HTTP on loopback. */
export async function startPrivateRegistry(): Promise<PrivateRegistry> {
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-registry-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, "htpasswd"), htpasswd);
  const registry = parts.use(await startDockerRegistry(dir, { auth: { htpasswd: { realm: "test", path: join(dir, "htpasswd") } } }));
  const reference = await writeLayout(join(dir, "layout"));
  const image = `${registry.host}/team/app:1`;
  const options = {
    insecureHosts: new Set([registry.host]),
    privateHosts: new Set([registry.host]),
    certificates: undefined,
    credentialsFor: async () => ({ kind: "password" as const, username, password }),
    clock: systemClock,
    onBlob: (): void => undefined,
  };
  await pushImage(reference.replace(/^oci:([^:]+).*$/, "$1"), undefined, image, options, AbortSignal.timeout(30_000));
  const kept = parts.move();
  return { host: registry.host, image, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}
