// The columns of a VM's row, for statements about many of them: as entities, each would cost more than all else that is done with it.
import type { VmRow } from "./entities.ts";

type Kind = "uuid" | "text" | "int" | "bigint" | "boolean" | "jsonb" | "timestamptz";

const kinds = {
  id: "uuid",
  name: "text",
  projectId: "uuid",
  owner: "text",
  spec: "jsonb",
  imageDigest: "text",
  desired: "int",
  generation: "bigint",
  observedGeneration: "bigint",
  phase: "int",
  reason: "text",
  message: "text",
  nodeId: "uuid",
  epoch: "bigint",
  sshHostKey: "text",
  sshHostKeyChanged: "boolean",
  serviceExit: "jsonb",
  asked: "jsonb",
  restartCount: "int",
  health: "int",
  timings: "jsonb",
  createTime: "timestamptz",
  updateTime: "timestamptz",
  revision: "bigint",
  cpuMillis: "int",
  memBytes: "bigint",
  diskBytes: "bigint",
  deleteProtection: "boolean",
  expireTime: "timestamptz",
  deleteTime: "timestamptz",
  purgeTime: "timestamptz",
  restartGeneration: "bigint",
  moving: "boolean",
  policyGeneration: "bigint",
  host: "text",
  httpPort: "int",
  publicPorts: "jsonb",
  address: "text",
  address6: "text",
} as const satisfies Record<Extract<keyof VmRow, string>, Kind>;

type VmColumn = keyof typeof kinds;

const columns = (Object.keys(kinds) as VmColumn[]).map((property) => ({
  property,
  name: property.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  kind: kinds[property],
}));

/** What {@link toVmRow} takes, of a table that is called `vm`. */
export const vmColumns = columns
  .map(({ name, kind }) => (kind === "timestamptz" ? `extract(epoch from vm.${name}) * 1000 as ${name}` : `vm.${name}`))
  .join(", ");

/** As a query of {@link vmColumns} gives it. */
export function toVmRow(found: Readonly<Record<string, unknown>>): VmRow {
  const row: Record<string, unknown> = {};
  for (const { property, name, kind } of columns) row[property] = read(found[name], kind);
  return row as unknown as VmRow; // every property of it is among the columns
}

function read(value: unknown, kind: Kind): unknown {
  if (value === null) return null;
  if (kind === "bigint") return BigInt(value as string);
  return kind === "timestamptz" ? new Date(Math.floor(Number(value))) : value;
}

/** Names and types of these columns, for a set of records that {@link vmRecord} made. */
export function recordTypes(of: readonly VmColumn[]): string {
  return columnsOf(of)
    .map(({ name, kind }) => `${name} ${kind}`)
    .join(", ");
}

export const allVmColumns: readonly VmColumn[] = columns.map(({ property }) => property);

export function columnNames(of: readonly VmColumn[]): string[] {
  return columnsOf(of).map(({ name }) => name);
}

/** As JSON that PostgreSQL reads into these columns. */
export function vmRecord(row: VmRow, of: readonly VmColumn[]): Record<string, unknown> {
  return Object.fromEntries(columnsOf(of).map(({ property, name }) => [name, written(row[property])]));
}

function columnsOf(of: readonly VmColumn[]): readonly (typeof columns)[number][] {
  return of === allVmColumns ? columns : columns.filter(({ property }) => of.includes(property));
}

function written(value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : (value ?? null);
}
