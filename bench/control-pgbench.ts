// The peer of durable creates: pgbench, with the rows that Pitwall itself wrote for one VM, in the three commits that creating, scheduling
// and running it are. It works in a database of its own on the same server, with the same schema.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openStore } from "@pitwall/controller/src/store/store.ts";
import type { Installation } from "@pitwall/controller/tests/support/installation.ts";
import { command } from "@pitwall/quickstart";
import pg from "pg";

const database = "pgbench";
/** Columns that differ from VM to VM; the database fills those that the script does not. */
const own = new Set(["id", "name", "node_id", "project_id", "revision", "vm_id", "seq", "txid", "request_id", "object"]);

/** What a node's report changes. */
const reported = ["phase", "observed_generation", "ssh_host_key", "timings", "update_time"];

type Row = Readonly<Record<string, string | null>>;

/** What Pitwall wrote for one VM. */
interface Written {
  readonly vm: Row;
  readonly events: readonly Row[];
  readonly audit: Row;
  readonly request: Row;
}

export interface Pgbench extends AsyncDisposable {
  /** Transactions of three commits a second, with so many clients. */
  run(seconds: number, clients: number): Promise<number>;
}

/** `vmId`: a VM that was created with a request id and runs. */
export async function openPgbench(installation: Installation, vmId: string): Promise<Pgbench> {
  const written = await read(installation, vmId);
  await installation.query(`create database ${database}`);
  const url = new URL(installation.databaseUrl);
  url.pathname = database;
  await (await openStore(url.href))[Symbol.asyncDispose](); // makes the schema
  const nodes = await copyFleet(installation, url.href);
  const script = join(installation.dir, "three-commits.sql");
  await writeFile(script, scriptOf(written, nodes));
  const env = { PGHOST: url.hostname, PGPORT: url.port, PGUSER: url.username, PGPASSWORD: url.password, PGDATABASE: database };
  return {
    async run(seconds, clients) {
      const args = ["-n", "-M", "prepared", "-c", String(clients), "-j", "1", "-T", String(seconds), "-f", script];
      const said = await command("pgbench", args, { env });
      const perSecond = /tps = ([0-9.]+) \(without/.exec(said)?.[1];
      if (perSecond === undefined || !/number of failed transactions: 0 /.test(said)) throw new Error(`pgbench says: ${said}`);
      return Number(perSecond);
    },
    async [Symbol.asyncDispose]() {
      await installation.query(`drop database ${database} with (force)`);
    },
  };
}

async function read({ query }: Installation, vmId: string): Promise<Written> {
  const rows = async (sql: string): Promise<Row[]> =>
    (await query(`select to_jsonb(found) as row from (${sql}) as found`, [vmId])).map(({ row }) =>
      Object.fromEntries(Object.entries(row as Record<string, unknown>).map(([name, value]) => [name, textOf(value)])),
    );
  const [vm] = await rows("select * from vm where id = $1::uuid");
  const events = await rows("select * from vm_event where vm_id = $1::uuid order by txid, seq");
  const [audit] = await rows("select * from audit_entry where object = concat('vm/', $1::uuid)");
  const [request] = await rows("select request.* from request join audit_entry using (request_id) where object = concat('vm/', $1::uuid)");
  if (!vm || events.length === 0 || !audit || !request) throw new Error("the VM has not left the rows that a VM leaves");
  return { vm, events, audit, request };
}

/** JSON's scalars as PostgreSQL takes them in a literal. */
function textOf(value: unknown): string | null {
  if (value === null) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The same projects and nodes; how many nodes. */
async function copyFleet({ query }: Installation, url: string): Promise<number> {
  const [{ projects, members, nodes } = {}] = await query(
    `select (select jsonb_agg(project) from project) as projects, (select jsonb_agg(member) from member) as members,
       (select jsonb_agg(to_jsonb(node) || '{"cpu_millis": 1000000000, "mem_bytes": 1000000000000000, "disk_bytes": 1000000000000000000}')
        from node) as nodes`,
  );
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query("insert into project select * from jsonb_populate_recordset(null::project, $1)", [JSON.stringify(projects)]);
    // A personal project has room for few; here each has its share.
    await client.query(
      "update project set quota_vms = 1e9, quota_cpu_millis = 1e15, quota_mem_bytes = 1e18, quota_disk_bytes = 1e18, quota_addresses = 1e9",
    );
    await client.query("insert into member select * from jsonb_populate_recordset(null::member, $1)", [JSON.stringify(members)]);
    const { rowCount } = await client.query("insert into node select * from jsonb_populate_recordset(null::node, $1)", [
      JSON.stringify(nodes),
    ]);
    await client.query("create table bench_node as select id, row_number() over (order by id) as n from node");
    await client.query("create table bench_project as select id, row_number() over (order by id) as n from project");
    await client.query("create unique index on bench_node (n)");
    await client.query("create unique index on bench_project (n)");
    return rowCount ?? 0;
  } finally {
    await client.end();
  }
}

/** One iteration: what a client of pgbench does again and again. */
function scriptOf({ vm, events, audit, request }: Written, nodes: number): string {
  const [first, ...later] = events;
  if (!first) throw new Error("the VM has no event");
  const id = "md5((:n::bigint)::text)::uuid";
  const at = `(select id from bench_node where n = 1 + mod(:n::bigint, ${nodes}))`;
  const project = "(select id from bench_project where n = 1 + mod(:n::bigint, (select count(*) from bench_project)))";
  const revision = "nextval('vm_revision')";
  const known = {
    id,
    vm_id: id,
    name: "concat('vm-', :n::bigint)",
    node_id: at,
    project_id: project,
    revision,
    object: `concat('vm/', ${id})`,
    request_id: "md5(concat('r', :n::bigint))::uuid",
  };
  const event = (row: Row): string => insert("vm_event", row, known);
  const observed = reported.map((name) => `${name} = ${literal(vm[name] ?? null)}`).join(", ");
  const update = `update vm set ${observed}, revision = ${revision} where id = ${id};`;
  const lock = `select * from vm where id = ${id} for update;`;
  const step = (row: Row): string[] => ["begin;", lock, update, event(row), "commit;"];
  return [
    "\\set n random(1, 9000000000000000000)",
    ...["begin;", insert("vm", vm, known), event(first), insert("audit_entry", audit, known), insert("request", request, known), "commit;"],
    ...step(later[0] ?? first),
    ...step(later.at(-1) ?? first),
    "",
  ].join("\n");
}

function insert(table: string, row: Row, known: Readonly<Record<string, string>>): string {
  const columns = Object.keys(row).filter((name) => known[name] !== undefined || !own.has(name));
  const values = columns.map((name) => known[name] ?? literal(row[name] ?? null));
  return `insert into ${table} (${columns.join(", ")}) values (${values.join(", ")});`;
}

/** pgbench takes `:name` for a variable of its own, also inside a literal. */
function literal(value: string | null): string {
  return value === null ? "null" : `E'${value.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll(":", "\\x3a")}'`;
}
