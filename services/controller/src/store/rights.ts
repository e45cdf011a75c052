// What the role may do that controllers work with: read and change rows, not tables, and of the audit log not even that.
//
// Given anew at each start by the role that owns the schema; on what a step adds, by the step itself.
import pg from "pg";

/** Of tables that are not simply read and written. */
const special: Readonly<Record<string, string>> = {
  // Append-only. The triggers say the same; they are the owner's to take away, these rights are not the runtime's to give itself.
  audit_entry: "select, insert",
  audit_leaf: "select, insert",
  audit_head: "select, insert",
  schema_migration: "select",
  installation: "select",
};
const usual = "select, insert, update, delete";
/** Besides, of some columns only, which not every step knows: `min_schema` is for who changes the schema. */
const ofColumns: Readonly<Record<string, string>> = { installation: "update (ca_fingerprint, secrets_key_id)" };

/**
 * A statement that ends a step: the controllers that run already make the step's triggers go off, and these write as `role`. What `role`
 * has rights on is left as it is.
 */
export function grantOnNew(role: string): string {
  const rights = Object.entries(special).map(([table, list]) => `when ${pg.escapeLiteral(table)} then ${pg.escapeLiteral(list)}`);
  const to = pg.escapeLiteral(role);
  return `do $grant$
    declare added record;
    begin
      for added in select schemaname, tablename from pg_tables where schemaname = current_schema()
          and not has_table_privilege(${to}, format('%I.%I', schemaname, tablename), 'select') loop
        execute format('grant %s on %I.%I to %I', case added.tablename ${rights.join(" ")} else ${pg.escapeLiteral(usual)} end,
          added.schemaname, added.tablename, ${to});
      end loop;
      for added in select schemaname, sequencename from pg_sequences where schemaname = current_schema()
          and not has_sequence_privilege(${to}, format('%I.%I', schemaname, sequencename), 'usage') loop
        execute format('grant usage on sequence %I.%I to %I', added.schemaname, added.sequencename, ${to});
      end loop;
    end $grant$`;
}

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
    const rights = [special[name] ?? usual, ofColumns[name] ?? []].flat();
    return [`revoke all on ${table} from ${to}`, `grant ${rights.join(", ")} on ${table} to ${to}`];
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
