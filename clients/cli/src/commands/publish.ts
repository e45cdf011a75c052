// pitwall publish, unpublish and url: ports of a VM by HTTP, below the gateway's domain.
import { Option, type Command } from "commander";
import type { Pitwall, Vm, VmUpdate } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { parsePort } from "../input/forward.ts";
import { parseLifeMs } from "../input/life.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import type { Shell } from "../shell.ts";

interface Options extends EndpointOption, ProjectOption {
  readonly port?: number;
}

const usualExpiry = "1h";

function reaching(command: Command): Command {
  return withEndpoint(
    command
      .argument("<vm>", "name or id")
      .addOption(projectOption())
      .addOption(new Option("--port <port>", "of the VM; default: its own choice, or 80").argParser(parsePort)),
  );
}

export function declarePublish(command: Command, shell: Shell): void {
  reaching(command)
    .option("--host <name>", "what the VM is called below the domain, unique in the installation (default: what it has, or its id)")
    .description("Opens a port of a VM to everybody who knows its address, which is printed. `pitwall unpublish` ends that.")
    .action((name: string, options: Options & { readonly host?: string }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const vm = await pitwall.vms.get(vmIn(options, name));
        const { port = vm.ingress?.port ?? 0, host } = options;
        await pitwall.addressOf(vm, { port }); // before anything is changed: the gateway may have no domain
        const publicPorts = [...(vm.ingress?.publicPorts ?? []), port];
        const changed = await change(pitwall, vm, { publicPorts, ...(host !== undefined && { host }) });
        shell.out(`${await pitwall.addressOf(changed, { port })}\n`);
      }),
    );
}

export function declareUnpublish(command: Command, shell: Shell): void {
  reaching(command)
    .option("--all", "all ports of it")
    .description("Makes a port of a VM private again: what is open by it ends within seconds.")
    .action((name: string, options: Options & { readonly all?: boolean }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const vm = await pitwall.vms.get(vmIn(options, name));
        const { port = vm.ingress?.port ?? 0, all = false } = options;
        const publicPorts = all ? [] : (vm.ingress?.publicPorts ?? []).filter((one) => one !== port);
        await change(pitwall, vm, { publicPorts });
        shell.note(all ? `no port of ${vm.name} is public` : `port ${port} of ${vm.name} is private`);
      }),
    );
}

export function declareUrl(command: Command, shell: Shell): void {
  reaching(command)
    .addOption(
      new Option("--expires <time>", "how long it lets in, such as 10m or 7d").argParser(parseLifeMs).default(3_600_000, usualExpiry),
    )
    .option("--path <path>", "in the VM", "/")
    .description(
      "Prints an address that lets whoever opens it in a browser into one port of a VM, for a time, as long as you may enter the VM yourself. " +
        "Who has it needs no account: pass it on with care.",
    )
    .action((name: string, { expires, path, port, ...options }: Options & { readonly expires: number; readonly path: string }) =>
      inSession(
        shell,
        options,
        async ({ pitwall }) => {
          const { url } = await pitwall.vms
            .get(vmIn(options, name))
            .then(({ id }) => pitwall.signedUrl(id, { ttlMs: expires, path, ...(port !== undefined && { port }) }));
          shell.out(`${url}\n`);
        },
        { ttl: "--expires" },
      ),
    );
}

/** Nobody else's change in between is undone. */
async function change(pitwall: Pitwall, { id, etag }: Vm, ingress: NonNullable<VmUpdate["ingress"]>): Promise<Vm> {
  return pitwall.vms.update(id, { ingress }, { etag });
}
