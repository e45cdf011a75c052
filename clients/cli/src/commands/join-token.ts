// pitwall join-token: what lets a node or a gateway join.
import { Option, type Command } from "commander";
import { CreateJoinTokenResponse } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

interface Options extends EndpointOption {
  readonly role: "node" | "gateway";
  readonly name?: string;
  readonly output: Format;
}

export function declare(command: Command, shell: Shell): void {
  command
    .addOption(new Option("--role <role>", "what joins").choices(["node", "gateway"]).makeOptionMandatory())
    .option("--name <name>", "the only name that it lets in (default: any unused name)");
  withOutput(withEndpoint(command))
    .description("Makes a one-time join string for `pitwall node --join` or `pitwall gateway --join`. For administrators.")
    .action(async (options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const made = await pitwall.createJoinToken(options.role, options.name);
        await show(shell, options.output, {
          table: () => `${plain(made.join)}\n`,
          json: CreateJoinTokenResponse.toJSON(made),
          names: [made.join],
        });
        if (made.expireTime) shell.note(`good for one ${options.role}, until ${made.expireTime.toISOString()}`);
      }),
    );
}
