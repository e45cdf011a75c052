// pitwall join-token: what lets a node or a gateway join.
import { InvalidArgumentError, Option, type Command } from "commander";
import { CreateJoinTokenResponse } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { addPair, type Pairs } from "../input/pairs.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

interface Options extends EndpointOption {
  readonly role: "node" | "gateway";
  readonly name?: string;
  readonly uses: number;
  readonly label?: Pairs;
  readonly output: Format;
}

export function declare(command: Command, shell: Shell): void {
  command
    .addOption(new Option("--role <role>", "what joins").choices(["node", "gateway"]).makeOptionMandatory())
    .option("--name <name>", "the only name that it lets in (default: any unused name)")
    .addOption(new Option("--uses <number>", "how many may join with it").argParser(parseUses).default(1))
    .option("--label <key=value>", "a label of the nodes, which they cannot change; may be repeated (default: they say theirs)", addPair);
  withOutput(withEndpoint(command))
    .description("Makes a join string for `pitwall node --join` or `pitwall gateway --join`. For administrators.")
    .action(async (options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const made = await pitwall.createJoinToken(options.role, options.name, options.uses, options.label);
        await show(shell, options.output, {
          table: () => `${plain(made.join)}\n`,
          json: CreateJoinTokenResponse.toJSON(made),
          names: [made.join],
        });
        if (made.expireTime)
          shell.note(
            `good for ${options.uses === 1 ? `one ${options.role}` : `${options.uses} ${options.role}s`}, until ${made.expireTime.toISOString()}`,
          );
      }),
    );
}

function parseUses(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError("It must be a number from 1.");
  return Number(text);
}
