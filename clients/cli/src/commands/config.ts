// pitwall config: which of the gateways signed in to is the current one.
import type { Command } from "commander";
import { openAccountStore } from "../account/account-store.ts";
import { parseEndpoint } from "../account/endpoint.ts";
import { CliError } from "../failure.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { table } from "../output/table.ts";
import type { Shell } from "../shell.ts";

export function declare(command: Command, shell: Shell): void {
  const store = openAccountStore(shell.env, shell.signals.signal);
  withOutput(command.command("get-contexts").description("Lists the gateways you are signed in to.")).action(
    async ({ output }: { output: Format }) => {
      const { current, accounts } = await store.read();
      const contexts = Object.entries(accounts).map(([endpoint, { issuer }]) => ({ endpoint, issuer, current: endpoint === current }));
      await show(shell, output, {
        table: () =>
          table(
            ["CURRENT", "ENDPOINT", "ISSUER"],
            contexts.map((context) => [context.current ? "*" : "", context.endpoint, context.issuer]),
          ),
        json: contexts,
        names: contexts.map(({ endpoint }) => endpoint),
      });
    },
  );
  command
    .command("current-context")
    .description("Prints the gateway that commands use.")
    .action(async () => {
      const { current } = await store.read();
      if (current === undefined) throw new CliError("no gateway is chosen: sign in with `pitwall login URL`");
      shell.out(`${current}\n`);
    });
  command
    .command("use-context")
    .argument("<endpoint>", "a gateway that you are signed in to")
    .description("Chooses the gateway that commands use.")
    .action(async (text: string) => {
      const endpoint = parseEndpoint(text);
      await store.change((before) => {
        if (!before.accounts[endpoint])
          throw new CliError(`you are not signed in to ${endpoint}: sign in with \`pitwall login ${endpoint}\``);
        return { ...before, current: endpoint };
      });
    });
}
