// pitwall port-forward: local ports that lead to ports of a VM.
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { explained, inSession, withEndpoint, type EndpointOption, type Session } from "../account/session.ts";
import { CliError, messageChain } from "../failure.ts";
import { parseForward, type Forward } from "../input/forward.ts";
import { projectOption, vmIn, type ProjectOption } from "../input/project.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";
import { openTcpWay } from "../vm/tcp-way.ts";

interface Options extends EndpointOption, ProjectOption {
  readonly address: string;
}

export function declare(command: Command, shell: Shell): void {
  withEndpoint(command)
    .argument("<vm>", "name or id")
    .argument("<ports...>", "PORT, LOCAL:PORT, or :PORT for any free local one", (text: string, known: Forward[] | undefined) => [
      ...(known ?? []),
      parseForward(text),
    ])
    .addOption(projectOption())
    .option("--address <address>", "where to listen; others than this machine's own let anybody there in", "127.0.0.1")
    .description(
      "Forwards local ports to ports of a VM, until Ctrl-C. Each connection makes its own way through the gateway: one that cannot be made is " +
        "told and closed, and the next one is tried anew, so a gateway or VM that comes back is reached again.",
    )
    .action((name: string, ports: readonly Forward[], options: Options) =>
      inSession(shell, options, (session) => forward(shell, session, vmIn(options, name), ports, options.address)),
    );
}

async function forward(shell: Shell, session: Session, reference: string, forwards: readonly Forward[], address: string): Promise<void> {
  const { signal } = shell.signals;
  const vm = await session.pitwall.vms.get(reference);
  const sockets = new Set<Socket>();
  await using servers = new AsyncDisposableStack();
  servers.defer(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (const { local, remote } of forwards) {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
      void carry(socket, session, vm.id, remote, signal).catch((error: unknown) => {
        socket.destroy();
        if (!signal.aborted) shell.note(`port ${remote} of ${vm.name}: ${plain(messageChain(explained(shell, session, error)))}`);
      });
    });
    servers.defer(() => void server.close());
    const port = await listen(server, address, local);
    shell.out(`${address.includes(":") ? `[${address}]` : address}:${port} leads to port ${remote} of ${vm.name}\n`);
  }
  if (!signal.aborted) await once(signal, "abort"); // as it is meant to end
}

async function carry(socket: Socket, { endpoint, token }: Session, vm: string, port: number, signal: AbortSignal): Promise<void> {
  const way = await openTcpWay({ endpoint, token: await token(), vm, port }, signal);
  way.on("error", () => undefined);
  const end = (): void => {
    way.destroy();
    socket.destroy();
  };
  socket.once("close", () => way.destroy());
  // Each direction ends by itself; a connection that breaks is the business of whoever uses it.
  await Promise.all([pipeline(socket, way).catch(end), pipeline(way, socket).catch(end)]);
}

async function listen(server: Server, address: string, port: number): Promise<number> {
  try {
    server.listen(port, address);
    await once(server, "listening");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    const why =
      code === "EADDRINUSE"
        ? "another program has it"
        : code === "EACCES"
          ? "this user may not; ports below 1024 are root's"
          : messageChain(error);
    throw new CliError(`cannot listen on ${address}:${port}: ${why}; \`LOCAL:PORT\` chooses another local port, \`:PORT\` any`, {
      cause: error,
    });
  }
  return (server.address() as AddressInfo).port; // it listens on TCP
}
