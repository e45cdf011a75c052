// The rows of an installation's database: how many each table has, what is added up, and what is kept on purpose.
import type { Lists } from "./difference.ts";

export type Query = (sql: string) => Promise<Record<string, unknown>[]>;

/** Tables that remember what is gone, and how long. All others must have as many rows as before. */
export const kept: Readonly<Record<string, string>> = {
  audit_entry: "for ever",
  audit_leaf: "for ever",
  audit_head: "for ever",
  address_rest: "a minute, and until it is looked for",
  vm_event: "a day, PITWALL_KEEP_EVENTS",
  request: "a day, PITWALL_KEEP_ANSWERS",
};

/** Rows that say how much there is of something: they must say the same as before. */
const sums: Readonly<Record<string, string>> = {
  project_usage: "select * from project_usage order by project_id",
  // A node has its row from its first VM on, which need not be one of the first round's.
  node_allocation: "select * from node_allocation where (vm_count, cpu_millis, mem_bytes, disk_bytes) <> (0, 0, 0, 0) order by node_id",
};

export async function countRows(query: Query): Promise<Readonly<Record<string, number>>> {
  const tables = await query("select table_name from information_schema.tables where table_schema = 'public' order by 1");
  const counts: [string, number][] = [];
  for (const { table_name: table } of tables) {
    const [row] = await query(`select count(*)::int as rows from "${String(table)}"`);
    counts.push([String(table), Number(row?.["rows"])]);
  }
  return Object.fromEntries(counts);
}

/** One line a row of each table, but of those in `but`, and what the sums are: of those all is told. */
export async function rowLists(query: Query, but: Readonly<Record<string, unknown>>): Promise<Lists> {
  const counts = await countRows(query);
  const rows = Object.entries(counts).flatMap(([table, count]) =>
    Object.hasOwn(but, table) || Object.hasOwn(sums, table) ? [] : Array.from({ length: count }, () => `a row of ${table}`),
  );
  const said: string[] = [];
  for (const [table, sql] of Object.entries(sums)) for (const row of await query(sql)) said.push(`${table} says ${JSON.stringify(row)}`);
  return { rows, sums: said };
}
