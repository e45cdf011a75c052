// The command line: all commands by name, of which only the one that is meant is loaded.
import { Command, CommanderError } from "commander";
import { exitCodes } from "./failure.ts";
import { serviceNames } from "./launch/flags.ts";
import type { Shell } from "./shell.ts";
import { packageVersion } from "./version.ts";

type Declare = (command: Command, shell: Shell) => void;

interface Entry {
  readonly name: string;
  readonly alias?: string;
  readonly summary: string;
  readonly load: () => Promise<Declare>;
}

const group = {
  account: "Sign-in:",
  projects: "Projects:",
  vms: "VMs:",
  ways: "Ways into a VM:",
  fleet: "Fleet:",
  services: "Services:",
  other: "Other:",
} as const;

const entries: Readonly<Record<keyof typeof group, readonly Entry[]>> = {
  account: [
    { name: "login", summary: "sign in to a gateway", load: async () => (await import("./commands/login.ts")).declare },
    { name: "logout", summary: "sign out", load: async () => (await import("./commands/logout.ts")).declare },
    { name: "whoami", summary: "show who you are", load: async () => (await import("./commands/whoami.ts")).declare },
    { name: "config", summary: "choose among gateways", load: async () => (await import("./commands/config.ts")).declare },
    { name: "keys", summary: "SSH keys of your profile", load: async () => (await import("./commands/keys.ts")).declare },
  ],
  projects: [
    { name: "project", summary: "projects and their members", load: async () => (await import("./commands/project.ts")).declare },
    { name: "token", summary: "API tokens for programs", load: async () => (await import("./commands/token.ts")).declare },
    { name: "registry", summary: "sign in to registries", load: async () => (await import("./commands/registry.ts")).declare },
    { name: "audit", summary: "who changed what", load: async () => (await import("./commands/audit.ts")).declare },
  ],
  vms: [
    { name: "run", summary: "make a VM of an image", load: async () => (await import("./commands/run.ts")).declare },
    { name: "ls", summary: "list VMs", load: async () => (await import("./commands/ls.ts")).declare },
    { name: "get", summary: "show one VM", load: async () => (await import("./commands/get.ts")).declare },
    { name: "start", summary: "start a stopped VM", load: async () => (await import("./commands/start-stop.ts")).declareStart },
    { name: "pause", summary: "stop a VM's CPUs", load: async () => (await import("./commands/start-stop.ts")).declarePause },
    {
      name: "suspend",
      summary: "put a VM to disk, memory and all",
      load: async () => (await import("./commands/start-stop.ts")).declareSuspend,
    },
    {
      name: "resume",
      summary: "let a paused or suspended VM go on",
      load: async () => (await import("./commands/start-stop.ts")).declareResume,
    },
    { name: "stop", summary: "stop a VM, keep its disk", load: async () => (await import("./commands/start-stop.ts")).declareStop },
    {
      name: "restart",
      summary: "stop a VM and start it again",
      load: async () => (await import("./commands/start-stop.ts")).declareRestart,
    },
    { name: "update", summary: "change a VM", load: async () => (await import("./commands/change.ts")).declareUpdate },
    { name: "rename", summary: "give a VM another name", load: async () => (await import("./commands/change.ts")).declareRename },
    { name: "extend", summary: "move the end of a VM's life", load: async () => (await import("./commands/change.ts")).declareExtend },
    { name: "rm", summary: "remove VMs and their disks", load: async () => (await import("./commands/rm.ts")).declare },
    { name: "undelete", summary: "bring a removed VM back", load: async () => (await import("./commands/change.ts")).declareUndelete },
    { name: "net", summary: "what the network did not let a VM", load: async () => (await import("./commands/net.ts")).declare },
    { name: "wait", summary: "wait for a VM", load: async () => (await import("./commands/wait.ts")).declare },
    {
      name: "images",
      alias: "image",
      summary: "look at images, and at what nodes hold",
      load: async () => (await import("./commands/images.ts")).declare,
    },
  ],
  ways: [
    { name: "ssh", summary: "log in to a VM", load: async () => (await import("./commands/ssh.ts")).declare },
    {
      name: "ssh-config",
      summary: "print a block for ~/.ssh/config",
      load: async () => (await import("./commands/ssh-config.ts")).declare,
    },
    {
      name: "port-forward",
      summary: "local ports that lead to ports of a VM",
      load: async () => (await import("./commands/port-forward.ts")).declare,
    },
    { name: "url", summary: "an address that lets a browser in", load: async () => (await import("./commands/publish.ts")).declareUrl },
    { name: "publish", summary: "open a port to everybody", load: async () => (await import("./commands/publish.ts")).declarePublish },
    { name: "unpublish", summary: "make it private again", load: async () => (await import("./commands/publish.ts")).declareUnpublish },
    { name: "sessions", summary: "what is open into your VMs", load: async () => (await import("./commands/sessions.ts")).declare },
    { name: "lock", summary: "keep people out of VMs", load: async () => (await import("./commands/lock.ts")).declare },
    { name: "recordings", summary: "what SSH sessions showed", load: async () => (await import("./commands/recordings.ts")).declare },
    { name: "logs", summary: "print what the image's process wrote", load: async () => (await import("./commands/logs.ts")).declare },
  ],
  fleet: [
    { name: "nodes", summary: "list, show, drain and remove nodes", load: async () => (await import("./commands/nodes.ts")).declare },
    {
      name: "gateways",
      summary: "list gateways, and take their certificates back",
      load: async () => (await import("./commands/gateways.ts")).declare,
    },
    { name: "join-token", summary: "let a node or gateway join", load: async () => (await import("./commands/join-token.ts")).declare },
  ],
  services: serviceNames.map((service) => ({
    name: service,
    summary: `run the ${service}`,
    load: async () => {
      const { declare } = await import("./commands/service.ts");
      return (command: Command, shell: Shell) => declare(command, shell, service);
    },
  })),
  other: [{ name: "version", summary: "print the version", load: async () => (await import("./commands/version.ts")).declare }],
};

/** Runs one command line. Throws what the command throws. A command line that makes no sense has been explained on stderr: exit code 2. */
export async function runProgram(args: readonly string[], shell: Shell): Promise<void> {
  const program = new Command("pitwall")
    .description("Boots OCI images as microVMs and lets you in.")
    .version(packageVersion(), "-V, --version")
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({ writeOut: (text) => shell.out(text), writeErr: (text) => shell.err(text) })
    .addHelpText("after", "\nEnvironment: PITWALL_ENDPOINT names the gateway; PITWALL_TOKEN is a token to use instead of a sign-in.");
  const meant = meantCommand(args);
  for (const key of ["account", "projects", "vms", "ways", "fleet", "services", "other"] as const) {
    program.commandsGroup(group[key]);
    for (const { name, alias, summary, load } of entries[key]) {
      const command = openCommand(program, name).summary(summary);
      if (alias !== undefined) command.alias(alias);
      if (name === meant || (alias !== undefined && alias === meant)) (await load())(command, shell);
    }
  }
  program.helpCommand("help [command]", "explain a command");
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    shell.endWith(error.exitCode === 0 ? exitCodes.ok : exitCodes.usage);
  }
}

/** One command; an option after a subcommand of it is the subcommand's, also where the command has the same. */
export function openCommand(program: Command, name: string): Command {
  return program.command(name).enablePositionalOptions();
}

/** The first word that is no flag, or the second after `help`. The program itself has no flag that takes a value. */
export function meantCommand(args: readonly string[]): string | undefined {
  const [first, second] = args.filter((arg) => !arg.startsWith("-"));
  return first === "help" ? second : first;
}
