// A whole Pitwall for one test file: real services, a real PostgreSQL, real VMs, in a state folder of its own.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  openSshAccess,
  provision,
  startStack,
  starterImage,
  type Provisioned,
  type SshAccess,
  type Stack,
  type StackOptions,
} from "@pitwall/quickstart";
import { PitwallRpcError } from "@pitwall/sdk";
import pg from "pg";

export interface TestStack extends AsyncDisposable {
  readonly stack: Stack;
  readonly provisioned: Provisioned;
  readonly ssh: SshAccess;
  /** Reference of the starter image. */
  readonly image: string;
  /** Rows of a query on the controller's database. */
  query(sql: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
}

/** Disposing it stops everything and removes the state folder. */
export async function startTestStack(
  options: Partial<Pick<StackOptions, "env" | "imageRoots" | "insecureRegistries">> = {},
): Promise<TestStack> {
  const said: string[] = [];
  const say = (text: string): void => void said.push(text);
  await using parts = new AsyncDisposableStack();
  const stateDir = await mkdtemp(join(tmpdir(), "pitwall-test-"));
  parts.defer(() => rm(stateDir, { recursive: true, force: true }));
  const provisioned = await provision(say);
  const layout = await starterImage(provisioned.cacheDir, say, new AbortController().signal);
  const stack = parts.use(
    await startStack({
      stateDir,
      provisioned,
      imageRoots: [provisioned.cacheDir, tmpdir(), ...(options.imageRoots ?? [])],
      insecureRegistries: options.insecureRegistries ?? [],
      say,
      ports: "any",
      ...(options.env && { env: options.env }),
    }),
  );
  parts.defer(() => removeVms(stack));
  const ssh = await openSshAccess(stack);
  await stack.client().addSshKey(ssh.publicKey);
  const kept = parts.move();
  return {
    stack,
    provisioned,
    ssh,
    image: `oci:${layout}:latest`,
    query: (sql, values = []) => query(stateDir, sql, values),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** VMs outlive their agent, so they must go before it does. */
async function removeVms(stack: Stack): Promise<void> {
  const { vms } = stack.client();
  const ids: string[] = [];
  for await (const { id } of vms.list()) ids.push(id);
  await Promise.all(ids.map((id) => deleteVm(stack, id)));
}

/** Resolves when nothing of the VM is left. */
export async function deleteVm(stack: Stack, vm: string): Promise<void> {
  const { vms } = stack.client();
  const deleted = await vms.delete(vm).catch((error: unknown) => {
    // What was never made is not left either; the failure that a test cleans up after must not be hidden by this one.
    if (error instanceof PitwallRpcError && error.code === "NOT_FOUND") return undefined;
    throw error;
  });
  if (deleted) await vms.waitUntilGone(deleted, { timeoutMs: 60_000 });
}

async function query(stateDir: string, sql: string, values: readonly unknown[]): Promise<Record<string, unknown>[]> {
  const dir = join(stateDir, "controller", "postgres");
  const password = await readFile(join(dir, "password"), "utf8");
  const port = Number((await readFile(join(dir, "data", "postmaster.pid"), "utf8")).split("\n")[3]);
  const client = new pg.Client({ host: "127.0.0.1", port, user: "pitwall", password, database: "postgres" });
  // The connection ends with its server: what was asked for fails by that, and it is nobody's unheard error.
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql, [...values]);
    return rows;
  } finally {
    await client.end();
  }
}
