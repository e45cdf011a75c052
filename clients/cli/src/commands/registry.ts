// pitwall registry: what a project signs in to registries with.
import type { Command } from "commander";
import { RegistryCredential, type RegistrySecret } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { usageError } from "../failure.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { readSecret } from "../input/secret.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { table } from "../output/table.ts";
import { ageWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & ProjectOption & { readonly output: Format };

interface LoginOptions extends EndpointOption, ProjectOption {
  readonly username?: string;
  readonly passwordStdin?: boolean;
  readonly identityTokenStdin?: boolean;
}

export function declare(command: Command, shell: Shell): void {
  const login = command
    .command("login")
    .argument("<host>", "host[:port] of the registry; docker.io for Docker Hub")
    .addOption(projectOption())
    .option("-u, --username <name>", "who signs in")
    .option("--password-stdin", "read the password from stdin")
    .option("--identity-token-stdin", "read an identity token from stdin, instead of a name and a password");
  withEndpoint(login)
    .description("Keeps a registry's password for a project, encrypted. Its VMs can be made of that registry's private images.")
    .action(async (host: string, { project = "", ...options }: LoginOptions) => {
      const secret = await secretFor(shell, options);
      await inSession(shell, options, async ({ pitwall }) => {
        const { registry } = await pitwall.projects.setRegistryCredential(project, host, secret);
        shell.note(`the credential for ${registry} is kept`);
      });
    });
  withOutput(withEndpoint(command.command("ls").addOption(projectOption())))
    .description("Lists the registries that a project has credentials for.")
    .action(async ({ project = "", ...options }: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const credentials = await pitwall.projects.registryCredentials(project);
        await show(shell, options.output, {
          table: () =>
            table(
              ["REGISTRY", "USERNAME", "SET"],
              credentials.map(({ registry, username, updateTime }) => [
                registry,
                username || "-",
                `${ageWord(updateTime, shell.wallMs())} ago`,
              ]),
            ),
          json: credentials.map((credential) => RegistryCredential.toJSON(credential)),
          names: credentials.map(({ registry }) => registry),
        });
      }),
    );
  withEndpoint(command.command("logout").argument("<host>", "as `pitwall registry ls` shows it").addOption(projectOption()))
    .description("Forgets a project's credential for a registry.")
    .action(async (host: string, { project = "", ...options }: EndpointOption & ProjectOption) =>
      inSession(shell, options, ({ pitwall }) => pitwall.projects.deleteRegistryCredential(project, host)),
    );
}

async function secretFor(
  shell: Shell,
  { username, passwordStdin = false, identityTokenStdin = false }: LoginOptions,
): Promise<RegistrySecret> {
  if (identityTokenStdin) {
    if (username !== undefined || passwordStdin) throw usageError("--identity-token-stdin goes without --username and --password-stdin");
    return { identityToken: await readSecret(shell, { isPiped: true, prompt: "" }) };
  }
  if (username === undefined) throw usageError("--username is required");
  return { username, password: await readSecret(shell, { isPiped: passwordStdin, prompt: "Password: " }) };
}
