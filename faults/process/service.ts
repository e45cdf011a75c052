// A service as a process of its own under a supervisor that starts it again, as an init system does. It can be killed and stopped.
//
//   starting -> up -> (killed, or ended by itself) -> down -> starting
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { nodeArguments, systemClock, sleepOrAbort } from "@pitwall/runtime";

const services = join(import.meta.dirname, "..", "..", "services");
const restartMs = 200;
/** The code of a process that a failpoint ends. */
const exitedAtFailpoint = 137;

export interface ServiceSpec {
  readonly name: string;
  readonly program: "controller" | "gateway" | "node";
  /** The network namespace that it runs in; undefined: the world's. */
  readonly namespace: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly logPath: string;
}

/** An end that nobody brought about. */
export interface UnexpectedEnd {
  readonly name: string;
  readonly how: string;
}

export class Service implements AsyncDisposable {
  readonly #spec: ServiceSpec;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** Of the next starts, one each. */
  readonly #extraEnv: Readonly<Record<string, string>>[] = [];
  #child: ChildProcess | undefined;
  #holdUntilMs = 0;
  #resumeAtMs = 0;
  #isKilled = false;
  #waking = new AbortController();
  #up = Promise.withResolvers<Readonly<Record<string, unknown>>>();
  #isUp = false;
  /** Ends of a service that was up, and that was neither killed nor ended by what was armed in it. */
  readonly unexpected: UnexpectedEnd[] = [];
  /** Exit codes and signals, oldest first. */
  readonly ends: string[] = [];

  constructor(spec: ServiceSpec) {
    this.#spec = spec;
    this.#running = this.#run();
  }

  get name(): string {
    return this.#spec.name;
  }

  /** Undefined while it is down. */
  get pid(): number | undefined {
    return this.#child?.exitCode === null && this.#child.signalCode === null ? this.#child.pid : undefined;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** What it printed when it was ready; of the process that runs, or of the next one. */
  ready(): Promise<Readonly<Record<string, unknown>>> {
    return this.#up.promise;
  }

  /** kill -9; it is started again after so long. */
  kill(forMs: number): void {
    this.#holdUntilMs = Math.max(this.#holdUntilMs, systemClock.monotonicMs() + forMs);
    this.#isKilled = true;
    this.#child?.kill("SIGKILL");
  }

  /** SIGSTOP, and SIGCONT after so long. */
  pause(forMs: number): void {
    this.#child?.kill("SIGSTOP");
    this.#resumeAtMs = Math.max(this.#resumeAtMs, systemClock.monotonicMs() + forMs);
    systemClock.after(forMs, () => {
      if (systemClock.monotonicMs() >= this.#resumeAtMs - 1) this.#child?.kill("SIGCONT");
    });
  }

  /** Whatever holds it up no longer does. */
  heal(): void {
    this.#holdUntilMs = 0;
    this.#resumeAtMs = 0;
    this.#child?.kill("SIGCONT");
    this.#waking.abort();
  }

  /** SIGTERM; it is started again. */
  end(): void {
    this.#isKilled = true;
    this.#child?.kill("SIGTERM");
  }

  /** Started again with these variables besides, and those of the next start after that, and so on. Resolves when it is up. */
  async restart(...extraEnv: readonly Readonly<Record<string, string>>[]): Promise<void> {
    this.#extraEnv.splice(0, Infinity, ...extraEnv);
    if (this.#isUp) this.#up = Promise.withResolvers();
    this.#isUp = false;
    this.kill(0);
    await this.ready();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#waking.abort();
    this.#child?.kill("SIGKILL");
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#once();
      this.#waking = new AbortController();
      const leftMs = Math.max(restartMs, this.#holdUntilMs - systemClock.monotonicMs());
      await sleepOrAbort(leftMs, AbortSignal.any([this.#stop.signal, this.#waking.signal]));
    }
  }

  async #once(): Promise<void> {
    const { name, program, namespace, env, logPath } = this.#spec;
    const log = openSync(logPath, "a");
    const node = [process.execPath, ...nodeArguments(program), join(services, program, "src", "main.ts")];
    const [first = "", ...args] = namespace === undefined ? node : ["ip", "netns", "exec", namespace, ...node];
    this.#isKilled = false;
    const extra = this.#extraEnv.shift();
    const child: ChildProcess = spawn(first, args, { env: { ...env, ...extra }, stdio: ["ignore", "pipe", log] });
    closeSync(log);
    this.#child = child;
    const ended = once(child, "exit");
    if (!child.stdout) throw new Error("a child without a pipe");
    createInterface({ input: child.stdout }).on("line", (line) => {
      const said: unknown = line.startsWith("{") ? JSON.parse(line) : undefined;
      if (typeof said !== "object" || said === null || !("ready" in said) || this.#child !== child) return;
      this.#isUp = true;
      this.#up.resolve({ ...said });
    });
    await ended.catch(() => undefined); // a child that could not be spawned
    const how = child.signalCode ?? `code ${child.exitCode}`;
    this.ends.push(how);
    const isMeant = this.#isKilled || (extra !== undefined && child.exitCode === exitedAtFailpoint);
    if (this.#isUp && !isMeant && !this.#stop.signal.aborted) this.unexpected.push({ name, how });
    if (this.#isUp) this.#up = Promise.withResolvers();
    this.#isUp = false;
  }
}
