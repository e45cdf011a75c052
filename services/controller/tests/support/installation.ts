// One installation for a test file: a real PostgreSQL, a real issuer, a shared CA, and as many controllers as a test starts.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Channel } from "@grpc/grpc-js";
import { silentLog, systemClock } from "@pitwall/runtime";
import { ImageServiceDefinition } from "@pitwall/proto/pitwall/v1/image.ts";
import { NodeServiceDefinition } from "@pitwall/proto/pitwall/v1/node.ts";
import { ProfileServiceDefinition } from "@pitwall/proto/pitwall/v1/profile.ts";
import { VmServiceDefinition } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ChannelCredentials, createChannel, createClientFactory, Metadata, type Client } from "nice-grpc";
import pg from "pg";
import { openEmbeddedPostgres } from "../../src/store/embedded-postgres.ts";
import { writeLayout } from "./layout.ts";
import { startProcess, type ServiceProcess } from "./processes.ts";

/** Calls of an administrator. */
export interface AdminApi {
  readonly vms: Client<typeof VmServiceDefinition>;
  readonly nodes: Client<typeof NodeServiceDefinition>;
  readonly images: Client<typeof ImageServiceDefinition>;
  readonly profile: Client<typeof ProfileServiceDefinition>;
}

export interface Controller extends ServiceProcess {
  /** `host:port` each. */
  readonly api: string;
  readonly link: string;
  /** Straight to this controller. */
  readonly admin: AdminApi;
}

export interface Installation extends AsyncDisposable {
  readonly dir: string;
  readonly issuer: string;
  /** As the role that owns the schema. */
  readonly databaseUrl: string;
  /** Reference of an image that controllers can resolve. */
  readonly image: string;
  query(sql: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** Makes a change in a transaction that is committed once `work` is done. */
  holding(sql: string, values: readonly unknown[], work: () => Promise<void>): Promise<void>;
  /** A controller of this installation, on any ports, or again on those of an earlier one; of another release if `root` is its repository. */
  startController(env?: Readonly<Record<string, string>>, root?: string): Promise<Controller>;
  token(): Promise<string>;
}

export async function startInstallation(): Promise<Installation> {
  await using parts = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "pitwall-controllers-"));
  parts.defer(() => rm(dir, { recursive: true, force: true }));
  const postgres = await openEmbeddedPostgres(join(dir, "postgres"), process.env["PATH"] ?? "", silentLog);
  const { url: databaseUrl, runtimeUrl } = parts.use(postgres);
  const issuerProcess = parts.use(await startProcess("issuer", { PITWALL_STATE_DIR: join(dir, "issuer"), PITWALL_LISTEN: "127.0.0.1:0" }));
  const issuer = String(issuerProcess.ready["issuer"]);
  const image = await writeLayout(join(dir, "images", "one"));
  const token = async (): Promise<string> => {
    const secret = (await readFile(join(dir, "issuer", "quickstart.secret"), "utf8")).trim();
    const response = await fetch(`${issuer}/token`, {
      method: "POST",
      headers: { authorization: `Basic ${Buffer.from(`pitwall-quickstart:${secret}`).toString("base64")}` },
      body: new URLSearchParams({ grant_type: "client_credentials" }),
    });
    const reply: unknown = await response.json();
    if (typeof reply !== "object" || reply === null || !("access_token" in reply)) throw new Error("the issuer gives no token");
    return String(reply.access_token);
  };
  const database = parts.adopt(new pg.Client(databaseUrl), (client) => client.end());
  await database.connect();
  let count = 0;
  const kept = parts.move();
  return {
    dir,
    issuer,
    databaseUrl,
    image,
    token,
    query: async (sql, values = []) => (await database.query<Record<string, unknown>>(sql, [...values])).rows,
    async holding(sql, values, work) {
      const client = new pg.Client(databaseUrl);
      await client.connect();
      try {
        await client.query("begin");
        await client.query(sql, [...values]);
        await work();
        await client.query("commit");
      } finally {
        await client.end();
      }
    },
    async startController(env = {}, root) {
      const settings = {
        PITWALL_STATE_DIR: join(dir, `controller-${++count}`),
        PITWALL_CA_DIR: join(dir, "ca"),
        PITWALL_LISTEN: "127.0.0.1:0",
        PITWALL_LINK_LISTEN: "127.0.0.1:0",
        PITWALL_DATABASE_URL: runtimeUrl,
        PITWALL_DATABASE_MIGRATOR_URL: databaseUrl,
        PITWALL_ISSUER: issuer,
        PITWALL_ADMIN_SUBJECTS: "dev",
        PITWALL_IMAGE_ROOTS: join(dir, "images"),
        PITWALL_LEASE: "4s",
        PITWALL_HEARTBEAT: "800ms",
        ...env,
      };
      const started = await startProcess("controller", settings, root);
      const [api, link] = [String(started.ready["api"]), String(started.ready["link"])];
      const admin = clients(
        createChannel(api, ChannelCredentials.createSsl(await readFile(join(dir, "ca", "certificate.pem")))),
        await token(),
      );
      return { ...started, api, link, admin };
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Calls of an administrator through a gateway. */
export function throughGateway(port: number, token: string): AdminApi {
  return clients(createChannel(`127.0.0.1:${port}`, ChannelCredentials.createInsecure()), token);
}

function clients(channel: Channel, token: string): AdminApi {
  const factory = createClientFactory();
  const defaults = { "*": { metadata: Metadata().set("authorization", `Bearer ${token}`) } };
  return {
    vms: factory.create(VmServiceDefinition, channel, defaults),
    nodes: factory.create(NodeServiceDefinition, channel, defaults),
    images: factory.create(ImageServiceDefinition, channel, defaults),
    profile: factory.create(ProfileServiceDefinition, channel, defaults),
  };
}

/** Resolves with the first answer that is not undefined, however long it takes; the test's own limit ends it. */
export async function eventually<T>(look: () => Promise<T | undefined> | T | undefined, everyMs = 20): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await systemClock.sleep(everyMs);
  }
}
