// pitwall version.
import type { Command } from "commander";
import { show, withOutput, type Format } from "../output/format.ts";
import type { Shell } from "../shell.ts";
import { packageVersion } from "../version.ts";

export function declare(command: Command, shell: Shell): void {
  withOutput(command)
    .description("Prints the version of this command.")
    .action(async ({ output }: { readonly output: Format }) => {
      const version = packageVersion();
      const json = { version, node: process.versions.node };
      await show(shell, output, { table: () => `pitwall ${version} (Node ${json.node})\n`, json, names: [version] });
    });
}
