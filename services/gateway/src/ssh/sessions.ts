// Sessions: each one of the client's becomes one in the VM, request by request.
import { messageChain, PitwallError, type Failpoints, type Log } from "@pitwall/runtime";
import type { ClientChannel, Connection, PseudoTtyOptions, ServerChannel, Session } from "ssh2";
import type { GatewayMetrics } from "../metrics.ts";
import type { Account } from "./limits.ts";
import type { VmConnection } from "./vm-connection.ts";
import { watchChannel } from "./windows.ts";

const maxEnv = 64;

interface SessionParts {
  readonly failpoints: Failpoints;
  readonly metrics: GatewayMetrics;
  readonly log: Log;
}

/** Without a VM (a connection that only jumps) sessions are refused. */
export function openSessions(client: Connection, vm: VmConnection | undefined, account: Account, parts: SessionParts): void {
  client.on("session", (accept, reject) => {
    if (!vm || !account.openSession()) return void reject();
    const session = accept();
    parts.metrics.enter("ssh_sessions");
    session.once("close", () => {
      parts.metrics.leave("ssh_sessions");
      account.closedSession();
    });
    bridge(session, vm, account, parts);
  });
}

function bridge(session: Session, vm: VmConnection, account: Account, { failpoints, log }: SessionParts): void {
  let pty: PseudoTtyOptions | undefined;
  const env: Record<string, string> = {};
  let inner: ClientChannel | undefined;
  session.on("pty", (accept, _reject, info) => {
    pty = { cols: info.cols, rows: info.rows, width: info.width, height: info.height, term: termOf(info) ?? "xterm", modes: info.modes };
    accept?.();
  });
  session.on("env", (accept, reject, { key, val }) => {
    if (Object.keys(env).length >= maxEnv) return void reject?.();
    env[key] = val;
    accept?.();
  });
  session.on("window-change", (accept, _reject, info) => {
    if (pty) pty = { ...pty, cols: info.cols, rows: info.rows, width: info.width, height: info.height };
    inner?.setWindow(info.rows, info.cols, info.height, info.width);
    accept?.();
  });
  session.on("signal", (accept, _reject, { name }) => {
    inner?.signal(name);
    accept?.();
  });

  type Start = (use: (error: Error | undefined, channel: ClientChannel) => void) => void;
  const run = async (outer: ServerChannel, how: (client: Awaited<ReturnType<VmConnection["client"]>>) => Start): Promise<void> => {
    account.watchShown(outer);
    try {
      const client = await vm.client();
      await failpoints.at("ssh.vm.connected");
      await new Promise<void>((resolve, reject) =>
        how(client)((error, channel) => {
          if (error) return reject(error);
          watchChannel(channel, { overran: () => vm.close() });
          // At once: what has ended already says so right behind its beginning.
          if (outer.destroyed) channel.close();
          else join(outer, channel);
          inner = channel;
          resolve();
        }),
      );
      await failpoints.at("ssh.session.joined");
    } catch (error) {
      log.debug("a session was not opened", { error });
      outer.stderr.write(`pitwall: ${error instanceof PitwallError ? error.message : messageChain(error)}\r\n`);
      outer.exit(255);
      outer.end();
    }
  };
  const options = (): { env: Record<string, string>; pty?: PseudoTtyOptions } => ({ env, ...(pty && { pty }) });
  session.on("shell", (accept) => {
    void run(accept(), (client) => (use) => client.shell(pty ?? false, { env }, use));
  });
  session.on("exec", (accept, _reject, { command }) => {
    void run(accept(), (client) => (use) => client.exec(command, options(), use));
  });
  session.on("subsystem", (accept, _reject, { name }) => {
    void run(accept(), (client) => (use) => client.subsys(name, use));
  });
}

/** ssh2's types leave the terminal's name out. */
function termOf(info: object): string | undefined {
  const term: unknown = Reflect.get(info, "term");
  return typeof term === "string" && term !== "" ? term : undefined;
}

/** Bytes both ways. The exit status must go out after the last byte and before the end, so the ends are not piped. */
function join(outer: ServerChannel, inner: ClientChannel): void {
  let open = 2;
  let exit: (() => void) | undefined;
  const finish = (): void => {
    if (open > 0 || !exit) return;
    exit();
    outer.end();
  };
  inner.on("exit", (code: number | null, signal?: string, didCoreDump?: boolean, description?: string) => {
    exit = () => (code === null ? outer.exit(signal ?? "KILL", didCoreDump ?? false, description ?? "") : outer.exit(code));
  });
  for (const [from, to] of [
    [inner, outer],
    [inner.stderr, outer.stderr],
  ] as const) {
    from.pipe(to, { end: false });
    from.once("end", () => {
      open--;
      finish();
    });
  }
  inner.once("close", () => {
    open = 0;
    exit ??= () => undefined;
    finish();
    outer.close();
  });
  outer.pipe(inner);
  outer.on("error", () => inner.close());
  inner.on("error", () => outer.close());
  outer.once("close", () => inner.close());
}
