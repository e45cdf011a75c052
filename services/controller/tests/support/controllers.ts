// Whole controllers in this process, on a PostgreSQL of their own: real ports, real certificates, real tokens.
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuditServiceDefinition } from "@pitwall/proto/pitwall/v1/audit.ts";
import { ImageServiceDefinition } from "@pitwall/proto/pitwall/v1/image.ts";
import { JoinRole, NodeServiceDefinition } from "@pitwall/proto/pitwall/v1/node.ts";
import { ProfileServiceDefinition } from "@pitwall/proto/pitwall/v1/profile.ts";
import { ProjectServiceDefinition } from "@pitwall/proto/pitwall/v1/project.ts";
import { SessionServiceDefinition } from "@pitwall/proto/pitwall/v1/session.ts";
import { VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";
import { logLevel, noFailpoints, openLog } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient, Metadata, type Channel, type Client } from "nice-grpc";
import pg from "pg";
import { readControllerConfig } from "../../src/config.ts";
import { startController, type Controller } from "../../src/controller.ts";
import { openEmbeddedPostgres } from "../../src/store/embedded-postgres.ts";
import { startIssuer } from "./issuer.ts";
import { writeLayout } from "./layout.ts";

export const admin = "root";

/** All calls of one person to one controller. */
export interface Calls {
  readonly vms: Client<typeof VmServiceDefinition>;
  readonly nodes: Client<typeof NodeServiceDefinition>;
  readonly projects: Client<typeof ProjectServiceDefinition>;
  readonly audit: Client<typeof AuditServiceDefinition>;
  readonly images: Client<typeof ImageServiceDefinition>;
  readonly profile: Client<typeof ProfileServiceDefinition>;
  readonly sessions: Client<typeof SessionServiceDefinition>;
}

export interface TestControllers extends AsyncDisposable {
  readonly controllers: readonly Controller[];
  /** Below it, tests may keep files. */
  readonly dir: string;
  /** Reference of an image that can be resolved. */
  readonly image: string;
  /** Calls of a subject, to the controller of this index. */
  as(subject: string, controller?: number): Promise<Calls>;
  /** The same with this `authorization` header; undefined: without one. */
  withHeader(authorization: string | undefined, controller?: number): Calls;
  /** To the API of the first controller, for raw calls. */
  readonly channel: Channel;
  /** An access token of a subject; `expires` is from now, as jose reads it. */
  token(subject: string, expires?: string): Promise<string>;
  /** Starts one controller more; its index. */
  add(env?: Readonly<Record<string, string>>): Promise<number>;
  /** A join string for one node. */
  joinNode(name: string): Promise<string>;
  /** Runs `work` while a transaction that has written to the audit log (action `test`) is open, until `work` commits it. */
  holding(work: (commit: () => Promise<void>) => Promise<void>): Promise<void>;
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
  const channels: Channel[] = [];
  let kept: AsyncDisposableStack = parts; // until all have started
  let ca: Buffer | undefined;
  const add = async (more: Readonly<Record<string, string>> = {}): Promise<number> => {
    const index = controllers.length;
    const stateDir = join(dir, `controller-${index}`);
    // One CA for all.
    if (index > 0) await cp(join(dir, "controller-0", "ca"), join(stateDir, "ca"), { recursive: true });
    const config = readControllerConfig({
      PITWALL_STATE_DIR: stateDir,
      PITWALL_DATABASE_URL: database.runtimeUrl,
      PITWALL_DATABASE_MIGRATOR_URL: database.url,
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
      ...more,
    });
    const controller = kept.use(await startController(config, { log, failpoints: noFailpoints, path }));
    controllers.push(controller);
    ca ??= await readFile(join(stateDir, "bootstrap", "ca.pem"));
    channels.push(kept.adopt(createChannel(controller.api, ChannelCredentials.createSsl(ca)), (channel) => channel.close()));
    return index;
  };
  for (let index = 0; index < count; index++) await add();
  const pool = new pg.Pool({ connectionString: database.url, max: 2 });
  // The server may say that it ends while a connection is being closed.
  pool.on("connect", (client) => client.on("error", () => undefined));
  parts.defer(() => pool.end());

  const channelOf = (controller: number): Channel => {
    const channel = channels[controller];
    if (!channel) throw new Error(`there is no controller ${controller}`);
    return channel;
  };
  const withHeader = (authorization: string | undefined, controller = 0): Calls => {
    const defaults = { "*": { metadata: Metadata(authorization === undefined ? {} : { authorization }) } };
    const channel = channelOf(controller);
    return {
      vms: createClient(VmServiceDefinition, channel, defaults),
      nodes: createClient(NodeServiceDefinition, channel, defaults),
      projects: createClient(ProjectServiceDefinition, channel, defaults),
      audit: createClient(AuditServiceDefinition, channel, defaults),
      images: createClient(ImageServiceDefinition, channel, defaults),
      profile: createClient(ProfileServiceDefinition, channel, defaults),
      sessions: createClient(SessionServiceDefinition, channel, defaults),
    };
  };
  const as = async (subject: string, controller = 0): Promise<Calls> => withHeader(`Bearer ${await issuer.token(subject)}`, controller);
  kept = parts.move();
  const whole = kept;
  return {
    controllers,
    dir,
    image,
    as,
    withHeader,
    channel: channelOf(0),
    token: (subject, expires) => issuer.token(subject, expires),
    add,
    async joinNode(name) {
      const { nodes } = await as(admin);
      return (await nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_NODE, name })).join;
    },
    async holding(work) {
      const client = await pool.connect();
      try {
        await client.query("begin");
        await client.query("insert into audit_entry (actor, subject, action, object, detail) values ('t', 't', 'test', 'x', '{}')");
        await work(async () => void (await client.query("commit")));
      } finally {
        client.release(true);
      }
    },
    query: async (sql, values = []) => (await pool.query<Record<string, unknown>>(sql, [...values])).rows,
    [Symbol.asyncDispose]: () => whole.disposeAsync(),
  };
}
