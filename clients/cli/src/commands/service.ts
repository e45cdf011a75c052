// pitwall controller, node, gateway and issuer: start that service in this command's place.
import { Option, type Command } from "commander";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { runChild } from "../child.ts";
import { CliError } from "../failure.ts";
import { serviceEnvironment } from "../launch/environment.ts";
import { flagName, serviceFlags, type ServiceFlag, type ServiceName } from "../launch/flags.ts";
import type { Shell } from "../shell.ts";

/** How Node runs it; `services/runtime/src/node-arguments.ts` has the same for the quick start, and says why. */
const nodeArguments = (service: ServiceName): readonly string[] => [
  "--disable-warning=DEP0123",
  ...(service === "gateway" ? ["--max-semi-space-size=4"] : []),
];
const root = join(import.meta.dirname, "..", "..", "..", "..");

export function declare(command: Command, shell: Shell, service: ServiceName): void {
  for (const flag of serviceFlags[service]) {
    const value = flag.isSwitch ? `[${flag.placeholder}]` : `<${flag.placeholder}>`;
    command.addOption(new Option(`${flagName(flag)} ${value}`, describe(flag)));
  }
  command
    .description(
      `Runs the ${service} until SIGTERM or Ctrl-C. Each flag is also a variable, which the flag wins over. It logs JSON on stderr and prints a line of JSON when it is ready.`,
    )
    .action(async (options: Readonly<Record<string, string | true | undefined>>) => {
      const main = join(root, "services", service, "src", "main.ts");
      if (!existsSync(main)) throw new CliError(`the ${service} is not part of this installation: run it from a checkout of Pitwall`);
      const env = serviceEnvironment(service, options, shell.env, shell.folder);
      shell.endWith(await runChild(process.execPath, [...nodeArguments(service), main], shell.signals, { env, isDetached: true }));
    });
}

/** `the node's name [PITWALL_NAME; default: the host's name]` */
function describe({ says, variable, default: value }: ServiceFlag): string {
  return `${says} [${variable}${value === "" ? "" : `; default: ${value}`}]`;
}
