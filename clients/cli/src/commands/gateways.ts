// pitwall gateways: who has a certificate of a gateway.
import type { Command } from "commander";
import { Gateway } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { table } from "../output/table.ts";
import { plain } from "../output/terminal-text.ts";
import { ageWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";
import { confirm, type SureOptions } from "./node-changes.ts";

type Options = EndpointOption & { readonly output: Format };

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.command("ls").description("Lists the gateways that have joined. For administrators."))).action(
    async (options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const gateways = await pitwall.fleet.gateways();
        await show(shell, options.output, {
          table: () =>
            table(
              ["NAME", "ID", "CERTIFICATE UNTIL", "AGE"],
              gateways.map(({ name, id, certificateExpireTime, createTime }) => [
                name,
                id,
                certificateExpireTime?.toISOString() ?? "",
                ageWord(createTime, shell.wallMs()),
              ]),
            ),
          json: gateways.map((gateway) => Gateway.toJSON(gateway)),
          names: gateways.map(({ name }) => name),
        });
      }),
  );
  withEndpoint(command.command("revoke").argument("<gateway>", "name or id"))
    .description("Refuses a gateway's certificate from now on. For administrators.")
    .option("-y, --yes", "do not ask")
    .action(async (name: string, options: SureOptions) =>
      inSession(shell, options, async ({ pitwall }) => {
        await confirm(shell, options, name, `${plain(name)} serves nobody from now on, and has to join again.`, "gateway");
        await pitwall.fleet.revokeGateway(name);
        shell.note(`${plain(name)} is revoked`);
      }),
    );
}
