// -o: one result in the four forms that every listing command offers.
import { Option, type Command } from "commander";
import type { Shell } from "../shell.ts";
import { plain, plainJson } from "./terminal-text.ts";

const formats = ["table", "json", "yaml", "name"] as const;

export type Format = (typeof formats)[number];

/** What a command shows. */
export interface View {
  /** For people; made only when asked for. */
  readonly table: () => string;
  /** As the API spells it in JSON: stable, for programs. */
  readonly json: unknown;
  /** What to call each thing by in another command. */
  readonly names: readonly string[];
}

/** Declares `-o` on a command. commander has no global option that may follow a subcommand. */
export function withOutput(command: Command): Command {
  return command.addOption(new Option("-o, --output <format>", "how to print it").choices(formats).default("table"));
}

/** Prints on stdout. */
export async function show(shell: Pick<Shell, "out">, format: Format, view: View): Promise<void> {
  switch (format) {
    case "table":
      return shell.out(view.table());
    case "json":
      return shell.out(`${plainJson(JSON.stringify(view.json, null, 2))}\n`);
    case "yaml":
      return shell.out(await toYaml(view.json));
    case "name":
      return shell.out(view.names.map((name) => `${plain(name)}\n`).join(""));
  }
}

/** YAML whose strings hold nothing that a terminal acts on. */
export async function toYaml(value: unknown): Promise<string> {
  const { Document, Scalar, visit } = await import("yaml"); // 30 ms that only YAML costs
  const document = new Document(value);
  visit(document, {
    Scalar: (_, node) => {
      // Double quotes are the form that has escapes.
      if (typeof node.value === "string" && plainJson(node.value) !== node.value) node.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return plainJson(document.toString({ lineWidth: 0 }));
}
