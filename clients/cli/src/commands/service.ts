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
type Options = Readonly<Record<string, string | true | undefined>>;

const onHost = {
  setup: "make the network of this host's VMs",
  doctor: "examine this host, and say what could be better",
  reset: "take the network away again",
} as const;
const root = join(import.meta.dirname, "..", "..", "..", "..");

export function declare(command: Command, shell: Shell, service: ServiceName): void {
  for (const flag of serviceFlags[service]) {
    const value = flag.isSwitch ? `[${flag.placeholder}]` : `<${flag.placeholder}>`;
    const option = new Option(`${flagName(flag)} ${value}`, describe(flag));
    if (flag.isRepeated) option.argParser((text: string, before?: string) => (before === undefined ? text : `${before},${text}`));
    command.addOption(option);
  }
  command
    .description(
      `Runs the ${service} until SIGTERM or Ctrl-C. Each flag is also a variable, which the flag wins over. It logs JSON on stderr and prints a line of JSON when it is ready.`,
    )
    .action(async (options: Options) => {
      const env = serviceEnvironment(service, options, shell.env, shell.folder);
      const program = [...nodeArguments(service), programOf(service, "main.ts")];
      shell.endWith(await runChild(process.execPath, program, shell.signals, { env, isDetached: true }));
    });
  if (service === "node") for (const word of ["setup", "doctor", "reset"] as const) declareOnHost(command, shell, word);
}

/** What is done to the host without an agent: the flags before the word count. */
function declareOnHost(node: Command, shell: Shell, word: keyof typeof onHost): void {
  node
    .command(word)
    .summary(onHost[word])
    .description(
      `Here, as root: ${onHost[word]}. Flags of \`pitwall node\` come before the word; those of the network count, and --state-dir.`,
    )
    .option("--json", "print a line of JSON")
    .action(async ({ json }: { json?: true }) => {
      const env = serviceEnvironment("node", node.opts<Options>(), shell.env, shell.folder);
      const program = [programOf("node", "host-command.ts"), word, ...(json ? ["--json"] : [])];
      shell.endWith(await runChild(process.execPath, program, shell.signals, { env }));
    });
}

function programOf(service: ServiceName, file: string): string {
  const path = join(root, "services", service, "src", file);
  if (!existsSync(path)) throw new CliError(`the ${service} is not part of this installation: run it from a checkout of Pitwall`);
  return path;
}

/** `the node's name [PITWALL_NAME; default: the host's name]` */
function describe({ says, variable, default: value }: ServiceFlag): string {
  return `${says} [${variable}${value === "" ? "" : `; default: ${value}`}]`;
}
