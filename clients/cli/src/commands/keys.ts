// pitwall keys: the SSH keys that open the user's VMs.
import type { Command } from "commander";
import { SshKey } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { readPublicKey } from "../input/public-key.ts";
import { show, withOutput, type Format, type View } from "../output/format.ts";
import { table } from "../output/table.ts";
import { ageWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & { readonly output: Format };

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.command("ls").description("Lists the keys of your profile."))).action(async (options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const keys = await pitwall.listSshKeys();
      await show(
        shell,
        options.output,
        view(
          keys,
          keys.map((key) => SshKey.toJSON(key)),
          shell,
        ),
      );
    }),
  );
  withOutput(withEndpoint(command.command("add").argument("<file>", "a public key, such as ~/.ssh/id_ed25519.pub")))
    .description("Adds a key to your profile: it opens your VMs, those that run included.")
    .action(async (file: string, options: Options) => {
      const line = await readPublicKey(file, shell.folder);
      await inSession(shell, options, async ({ pitwall }) => {
        const key = await pitwall.addSshKey(line);
        await show(shell, options.output, view([key], SshKey.toJSON(key), shell));
      });
    });
  withEndpoint(command.command("rm").argument("<fingerprint>", "SHA256:…, as `pitwall keys ls` shows it"))
    .description("Removes a key from your profile.")
    .action(async (fingerprint: string, options: EndpointOption) =>
      inSession(shell, options, ({ pitwall }) => pitwall.deleteSshKey(fingerprint)),
    );
}

function view(keys: readonly SshKey[], json: unknown, shell: Shell): View {
  return {
    table: () =>
      table(
        ["FINGERPRINT", "TYPE", "ADDED"],
        keys.map(({ fingerprint, publicKey, createTime }) => [
          fingerprint,
          publicKey.split(" ")[0] ?? "",
          `${ageWord(createTime, shell.wallMs())} ago`,
        ]),
      ),
    json,
    names: keys.map(({ fingerprint }) => fingerprint),
  };
}
