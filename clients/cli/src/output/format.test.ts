import { Command } from "commander";
import { parse } from "yaml";
import { expect, test } from "vitest";
import type { Shell } from "../shell.ts";
import { show, toYaml, withOutput, type Format } from "./format.ts";

const view = { table: () => "NAME\nweb\n", json: { name: "web", generation: "1" }, names: ["web"] };

async function shown(format: Format): Promise<string> {
  let text = "";
  const shell = { out: (piece: string) => void (text += piece) } as unknown as Shell; // only `out` is used
  await show(shell, format, view);
  return text;
}

test("a view has four forms", async () => {
  expect(await shown("table")).toBe("NAME\nweb\n");
  expect(await shown("json")).toBe('{\n  "name": "web",\n  "generation": "1"\n}\n');
  expect(await shown("yaml")).toBe('name: web\ngeneration: "1"\n');
  expect(await shown("name")).toBe("web\n");
});

test("YAML of hostile text is plain to a terminal and keeps its value", async () => {
  const value = { "k\u009b": "a\u001b[2J\u009b2J\u202e", list: ["del\u007f"] };
  const text = await toYaml(value);
  expect(text).toMatch(/^[\n\u0020-\u007e]+$/);
  expect(parse(text)).toEqual(value);
});

test("-o may follow the operands of a subcommand and knows its choices", () => {
  const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  const ls = withOutput(program.command("ls <x>")).action(() => undefined);
  program.parse(["ls", "a", "-o", "json"], { from: "user" });
  expect(ls.opts()).toEqual({ output: "json" });
  expect(() => program.parse(["ls", "a", "-o", "xml"], { from: "user" })).toThrow("Allowed choices are table, json, yaml, name");
});
