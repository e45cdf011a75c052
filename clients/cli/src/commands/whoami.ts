// pitwall whoami: the signed-in user, as the server knows them.
import type { Command } from "commander";
import { GetProfileResponse } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { fieldList } from "../output/table.ts";
import type { Shell } from "../shell.ts";

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command))
    .description("Shows who you are to the gateway.")
    .action(async (options: EndpointOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ endpoint, pitwall }) => {
        const profile = await pitwall.getProfile();
        const { subject, username, isAdmin, tokenId } = profile;
        await show(shell, options.output, {
          table: () =>
            fieldList([
              ["User", username || subject],
              ["Subject", subject],
              ["API token", tokenId],
              ["Administrator", isAdmin ? "yes" : "no"],
              ["Gateway", endpoint],
            ]),
          json: GetProfileResponse.toJSON(profile),
          names: [username || subject],
        });
      }),
    );
}
