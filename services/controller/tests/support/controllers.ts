// Whole controllers in this process, on a PostgreSQL of their own: real ports, real certificates, real tokens.
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JoinRole, NodeServiceDefinition } from "@pitwall/proto/pitwall/v1/node.ts";
import { VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";
import { logLevel, openLog } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient, Metadata, type Client } from "nice-grpc";
import pg from "pg";
import { readControllerConfig } from "../../src/config.ts";
import { startController, type Controller } from "../../src/controller.ts";
import { openEmbeddedPostgres } from "../../src/store/embedded-postgres.ts";
import { startIssuer } from "./issuer.ts";
import { writeLayout } from "./layout.ts";

const admin = "root";

/** All calls of one person to one controller. */
export interface Calls {
  readonly vms: Client<typeof VmServiceDefinition>;
  readonly nodes: Client<typeof NodeServiceDefinition>;
}

export interface TestControllers extends AsyncDisposable {
  readonly controllers: readonly Controller[];
  /** Below it, tests may keep files. */
  readonly dir: string;
  /** Reference of an image that can be resolved. */
  readonly image: string;
  /** Calls of a subject, to the controller of this index. */
  as(subject: string, controller?: number): Promise<Calls>;
  /** A join string for one node. */
  joinNode(name: string): Promise<string>;
  query(sql: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
}

/** `count` controllers on one database. Disposing it stops everything and removes all files. */
export async function startControllers(count = 1, env: Readonly<Record<string, string>> = {}): Promise<TestControllers> {
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-controllers-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const issuer = parts.use(await startIssuer());
  const log = openLog("test", logLevel(process.env["PITWALL_TEST_LOG_LEVEL"] ?? "error"));
  const path = process.env["PATH"] ?? "";
  const database = parts.use(await openEmbeddedPostgres(join(dir, "postgres"), path, log));
  const image = await writeLayout(join(dir, "image"));
  const controllers: Controller[] = [];
  for (let index = 0; index < count; index++) {
    const stateDir = join(dir, `controller-${index}`);
    // One CA for all.
    if (index > 0) await cp(join(dir, "controller-0", "ca"), join(stateDir, "ca"), { recursive: true });
    const config = readControllerConfig({
      PITWALL_STATE_DIR: stateDir,
      PITWALL_DATABASE_URL: database.url,
      PITWALL_LISTEN: "127.0.0.1:0",
      PITWALL_LINK_LISTEN: "127.0.0.1:0",
      PITWALL_ISSUER: issuer.url,
      PITWALL_ADMIN_SUBJECTS: admin,
      PITWALL_IMAGE_ROOTS: dir,
      // The machine may be busy, and these tests are not about silence.
      PITWALL_HEARTBEAT: "60s",
      PITWALL_LEASE: "120s",
      PITWALL_BOOTSTRAP_DIR: join(stateDir, "bootstrap"),
      ...env,
    });
    controllers.push(parts.use(await startController(config, { log, path })));
  }
  const ca = await readFile(join(dir, "controller-0", "bootstrap", "ca.pem"));
  const channels = controllers.map(({ api }) => createChannel(api, ChannelCredentials.createSsl(ca)));
  parts.defer(() => channels.forEach((channel) => channel.close()));
  const pool = new pg.Pool({ connectionString: database.url, max: 2 });
  parts.defer(() => pool.end());

  const as = async (subject: string, controller = 0): Promise<Calls> => {
    const channel = channels[controller];
    if (!channel) throw new Error(`there is no controller ${controller}`);
    const defaults = { "*": { metadata: Metadata({ authorization: `Bearer ${await issuer.token(subject)}` }) } };
    return { vms: createClient(VmServiceDefinition, channel, defaults), nodes: createClient(NodeServiceDefinition, channel, defaults) };
  };
  const kept = parts.move();
  return {
    controllers,
    dir,
    image,
    as,
    async joinNode(name) {
      const { nodes } = await as(admin);
      return (await nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name })).join;
    },
    query: async (sql, values = []) => (await pool.query<Record<string, unknown>>(sql, [...values])).rows,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}
