// What the role may do that controllers work with: read and change rows, not tables, and of the audit log not even that.
//
// Given anew at each start by the role that owns the schema, so that tables which a step has added are among them.
import pg from "pg";

/** Of tables that are not simply read and written. */
const special: Readonly<Record<string, string>> = {
  // Append-only. The triggers say the same; they are the owner's to take away, these rights are not the runtime's to give itself.
  audit_entry: "select, insert",
  audit_leaf: "select, insert",
  audit_head: "select, insert",
  schema_migration: "select",
  // `min_schema` is for who changes the schema.
  installation: "select, update (ca_fingerprint, secrets_key_id)",
};
const usual = "select, insert, update, delete";

/** Takes away what else it had. */
export async function grantTo(client: pg.Client, role: string): Promise<void> {
  const to = pg.escapeIdentifier(role);
  const { rows: tables } = await client.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = current_schema()",
  );
  const { rows } = await client.query<{ schema: string }>("select quote_ident(current_schema()) as schema");
  const schema = rows[0]?.schema ?? "public";
  const statements = tables.flatMap(({ name }) => {
    const table = `${schema}.${pg.escapeIdentifier(name)}`;
    return [`revoke all on ${table} from ${to}`, `grant ${special[name] ?? usual} on ${table} to ${to}`];
  });
  await client.query("begin");
  await client.query(
    [
      `revoke create on schema ${schema} from ${to}`,
      `grant usage on schema ${schema} to ${to}`,
      ...statements,
      `grant usage on all sequences in schema ${schema} to ${to}`,
    ].join("; "),
  );
  await client.query("commit");
}
