// Which fields each change has, as docs/api.md says it: printed from the contract.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type DescriptorProto } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { policyOf } from "./policy.ts";

const fields = ["request_id", "etag", "validate_only", "plan_token"] as const;
const root = join(import.meta.dirname, "..", "..", "..", "..");
const files = fromBinary(FileDescriptorSetSchema, readFileSync(join(root, "gen", "descriptor.binpb"))).file;
const messages: ReadonlyMap<string, DescriptorProto> = new Map(
  files.flatMap((file) => file.messageType.map((message) => [`.${file.package}.${message.name}`, message] as const)),
);

/** What users change: every method of theirs that mutates. */
const changes = files.flatMap((file) =>
  file.service.flatMap((service) =>
    service.method.flatMap((method) => {
      const policy = policyOf(`/${file.package}.${service.name}/${method.name}`);
      if (!policy?.mutates || !["user", "person", "admin"].includes(policy.who)) return [];
      const has = new Set(messages.get(method.inputType)?.field.map(({ name }) => name));
      return [{ service: service.name, name: method.name, cells: fields.map((field) => (has.has(field) ? "yes" : "")) }];
    }),
  ),
);

const heading = ["change", ...fields.map((field) => `\`${field}\``)];
const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

function table(): string {
  const weight = (cells: readonly string[]): number => cells.filter(Boolean).length;
  const groups = Map.groupBy(changes, ({ cells }) => cells.join());
  const rows = [...groups.values()].toSorted(([a], [b]) => weight(b?.cells ?? []) - weight(a?.cells ?? []));
  return [
    row(heading),
    row(heading.map(() => "---")),
    ...rows.map((group) => {
      const services = [...Map.groupBy(group, ({ service }) => service)];
      const names = services.map(([service, methods]) => `\`${service}\`: ${methods.map(({ name }) => name).join(", ")}`);
      return row([names.join("; "), ...(group[0]?.cells ?? [])]);
    }),
  ].join("\n");
}

test("they are what docs/api.md says; `npx vitest run services/controller/src/rpc/changes.test.ts -u` prints them anew", async () => {
  const path = join(root, "docs", "api.md");
  const [begin, end] = ["<!-- changes -->\n", "\n<!-- /changes -->"];
  const text = readFileSync(path, "utf8");
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  expect(from).toBeGreaterThan(0);
  expect(to).toBeGreaterThan(from);
  await expect(`${text.slice(0, from + begin.length)}${table()}${text.slice(to)}`).toMatchFileSnapshot(path);
});

test("there are changes with each of the fields, and what can be applied as planned can be planned, and repeated", () => {
  for (const at of fields.keys()) expect(changes.some(({ cells }) => cells[at] === "yes")).toBe(true);
  for (const { name, cells } of changes)
    if (cells[3]) expect({ name, hasId: cells[0], isPlanned: cells[2] }).toEqual({ name, hasId: "yes", isPlanned: "yes" });
});
