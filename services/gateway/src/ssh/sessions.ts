// Sessions: each one of the client's becomes one in the VM, request by request.
import { Transform } from "node:stream";
import { messageChain, PitwallError, type Failpoints, type Log } from "@pitwall/runtime";
import type { Client, ClientChannel, Connection, PseudoTtyOptions, ServerChannel, Session } from "ssh2";
import type { GatewayMetrics } from "../metrics.ts";
import type { Recorded, Recorder, Shown } from "../recording/recorder.ts";
import { notice, type Recordings } from "../recording/recordings.ts";
import type { Account } from "./limits.ts";
import type { Login } from "./target.ts";
import type { VmConnection } from "./vm-connection.ts";
import { watchChannel } from "./windows.ts";

const maxEnv = 64;
const connectionEnded = "its connection has ended";

interface SessionParts {
  readonly login: Pick<Login, "permits">;
  readonly vm: VmConnection;
  readonly account: Account;
  readonly failpoints: Failpoints;
  readonly recordings: Recordings;
  readonly metrics: GatewayMetrics;
  readonly log: Log;
}

/** What a client has begun in a session. */
interface Begun {
  /** Empty for a shell. */
  readonly command: string;
  /** Whether what comes of it is for people: that of a subsystem, SFTP, is not, and is not recorded. */
  readonly isShown: boolean;
}

export function openSessions(client: Connection, parts: SessionParts): void {
  const { account } = parts;
  client.on("session", (accept, reject) => {
    if (!account.openSession()) return void reject();
    const session = accept();
    parts.metrics.enter("ssh_sessions");
    session.once("close", () => {
      parts.metrics.leave("ssh_sessions");
      account.closedSession();
    });
    bridge(session, parts);
  });
}

function bridge(session: Session, { login, vm, account, failpoints, recordings, log }: SessionParts): void {
  let pty: PseudoTtyOptions | undefined;
  const env: Record<string, string> = {};
  let inner: ClientChannel | undefined;
  let recorder: Recorder | undefined;
  session.on("pty", (accept, reject, info) => {
    if (!login.permits.pty) return void reject?.();
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
    recorder?.resized(info.cols, info.rows);
    accept?.();
  });
  session.on("signal", (accept, _reject, { name }) => {
    inner?.signal(name);
    accept?.();
  });

  type Start = (use: (error: Error | undefined, channel: ClientChannel) => void) => void;
  const run = async (outer: ServerChannel, what: Begun, how: (client: Client) => Start): Promise<void> => {
    account.watchShown(outer);
    let end = "";
    let isOver = false;
    outer.once("close", () => {
      isOver = true;
      void recorder?.close(end === "" ? connectionEnded : end);
    });
    const refuse = (why: string): void => {
      outer.stderr.write(`pitwall: ${why}\r\n`);
      outer.exit(255);
      outer.end();
    };
    try {
      const { client, name, recordAs } = await vm.enter();
      await failpoints.at("ssh.vm.connected");
      if (recordAs !== undefined) {
        const recorded = { sessionId: recordAs, command: what.command, terminal: terminalOf(pty), title: name };
        recorder = await recordings.open(recorded, (why) => {
          void recorder?.close(why);
          refuse(why);
          outer.close();
          inner?.close();
        });
        if (isOver) return void recorder.close(connectionEnded); // nobody is left to begin for
        outer.stderr.write(notice);
      }
      await new Promise<void>((resolve, reject) =>
        how(client)((error, channel) => {
          if (error) return reject(error);
          watchChannel(channel, { overran: () => vm.close() });
          // At once: what has ended already says so right behind its beginning.
          if (outer.destroyed) channel.close();
          else join(outer, channel, what.isShown ? recorder : undefined, (said) => (end ||= said));
          inner = channel;
          resolve();
        }),
      );
      await failpoints.at("ssh.session.joined");
    } catch (error) {
      log.debug("a session was not opened", { error });
      void recorder?.close("it was not opened");
      refuse(error instanceof PitwallError ? error.message : messageChain(error));
    }
  };
  const options = (): { env: Record<string, string>; pty?: PseudoTtyOptions } => ({ env, ...(pty && { pty }) });
  session.on("shell", (accept) => {
    void run(accept(), { command: "", isShown: true }, (client) => (use) => client.shell(pty ?? false, { env }, use));
  });
  session.on("exec", (accept, _reject, { command }) => {
    void run(accept(), { command, isShown: true }, (client) => (use) => client.exec(command, options(), use));
  });
  session.on("subsystem", (accept, _reject, { name }) => {
    void run(accept(), { command: `subsystem ${name}`, isShown: false }, (client) => (use) => client.subsys(name, use));
  });
}

/** ssh2's types leave the terminal's name out. */
function termOf(info: object): string | undefined {
  const term: unknown = Reflect.get(info, "term");
  return typeof term === "string" && term !== "" ? term : undefined;
}

function terminalOf(pty: PseudoTtyOptions | undefined): Recorded["terminal"] {
  return pty && { columns: pty.cols ?? 80, rows: pty.rows ?? 24, term: termOf(pty) ?? "" };
}

/**
 * Bytes both ways; what is recorded is shown once the recorder has taken it. The exit status must go out after the last byte and before the
 * end, so the ends are not piped.
 */
function join(outer: ServerChannel, inner: ClientChannel, recorder: Recorder | undefined, ended: (how: string) => void): void {
  let open = 2;
  let isFinished = false;
  let exit: (() => void) | undefined;
  const finish = (): void => {
    if (open > 0 || !exit || isFinished) return;
    isFinished = true;
    const tell = exit;
    // Behind all that stderr holds: the end of the channel does not wait for that, as it does for stdout.
    outer.stderr.write("", () => {
      tell();
      outer.end(); // which closes it, once its client has taken what is there
    });
  };
  inner.on("exit", (code: number | null, signal?: string, didCoreDump?: boolean, description?: string) => {
    ended(code === null ? `signal ${signal ?? "KILL"}` : `exit code ${code}`);
    exit = () => (code === null ? outer.exit(signal ?? "KILL", didCoreDump ?? false, description ?? "") : outer.exit(code));
  });
  const taps: Transform[] = [];
  for (const [from, to, shown] of [
    [inner, outer, "stdout"],
    [inner.stderr, outer.stderr, "stderr"],
  ] as const) {
    const tap = recorder && tapOf(recorder, shown);
    if (tap) taps.push(tap);
    const last = tap ? from.pipe(tap) : from;
    last.pipe(to, { end: false });
    last.once("end", () => {
      open--;
      finish();
    });
  }
  inner.once("close", () => {
    ended("the way into the VM has ended");
    exit ??= () => undefined;
    // Both streams end, too, once what they and the taps hold is recorded and shown.
    for (const tap of taps) tap.end();
    // What its client still sends goes nowhere; a channel that nobody reads would never say that it is closed.
    outer.unpipe(inner);
    outer.resume();
    finish();
  });
  outer.pipe(inner);
  outer.on("error", () => inner.close());
  inner.on("error", () => outer.close());
  outer.once("close", () => inner.close());
}

/** Passes bytes on once the recorder has taken them. */
function tapOf(recorder: Recorder, shown: Shown): Transform {
  const tap = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      recorder.output(chunk, shown).then(() => done(null, chunk), done);
    },
  });
  return tap.on("error", () => undefined); // the recorder has told why, and the session ends
}
