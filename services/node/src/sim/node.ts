// One simulated node: the real agent on a virtual host, and what the script does to them.
//
//   up -> crashed (the agent alone; VMs run on) -> up        up -> lost (the host) -> up, or never
import type { ConnectRequest, ConnectResponse } from "@pitwall/proto/pitwall/v1/link.ts";
import type { Labels } from "@pitwall/enroll";
import type { Resources } from "@pitwall/proto/pitwall/v1/node.ts";
import { phaseToJSON } from "@pitwall/proto/pitwall/v1/vm.ts";
import { seededRandom, sshEd25519Line, toDuration, type Clock, type Failpoints, type Log, type StepName } from "@pitwall/runtime";
import { startAgent, type AgentParts } from "../agent.ts";
import type { DialLink } from "../link/dial.ts";
import type { Ingredients } from "../machine/host.ts";
import { noTimings } from "../machine/reports.ts";
import { Ambush } from "./ambush.ts";
import { diskFull, SimHost } from "./host.ts";
import { Life } from "./life.ts";
import { openMemoryDriver } from "./memory-driver.ts";
import { Plan } from "./plan.ts";
import { jumpMs, type Script } from "./script.ts";
import type { Trace } from "./trace.ts";

export interface SimNodeOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly script: Script;
  readonly seed: string;
  readonly dial: DialLink;
  readonly capacity: Resources;
  /** Default: none. */
  readonly labels?: Labels;
  readonly bootLimitMs: number;
  readonly openTunnels: AgentParts["openTunnels"];
  readonly trace: Trace;
  readonly log: Log;
}

/** Disposing it stops the agent as SIGTERM does. */
export class SimNode implements AsyncDisposable {
  readonly #options: SimNodeOptions;
  readonly #plan: Plan;
  readonly host: SimHost;
  #life = new Life();
  #lives = 0;
  #agent: Promise<AsyncDisposable> | undefined;
  #isStopped = false;
  readonly #ambush = new Ambush();
  readonly #linked = Promise.withResolvers<void>();
  readonly #timers = new Set<Disposable>();

  constructor(options: SimNodeOptions) {
    this.#options = options;
    const { name, clock, script, seed, trace } = options;
    this.#plan = new Plan({ script, seed, node: name });
    this.host = new SimHost({ clock, seed, name, trace, killMs: (vmId) => this.#plan.killMs(vmId) });
    for (const fault of this.#plan.ofNode("clock-jump")) {
      this.#after(this.#plan.timeMs(fault.at, fault), () => {
        this.#say("fault.clock-jump");
        this.host.jumpClock(jumpMs(fault));
      });
    }
    for (const fault of this.#plan.ofNode("node-loss"))
      if (fault.at) this.#after(this.#plan.timeMs(fault.at, fault), () => this.lose(fault.back && this.#plan.timeMs(fault.back, fault)));
  }

  /** Resolves with the first link. */
  get linked(): Promise<void> {
    return this.#linked.promise;
  }

  get isUp(): boolean {
    return this.#agent !== undefined;
  }

  start(): void {
    if (this.#agent || this.#isStopped) return;
    this.#lives++;
    const life = new Life();
    this.#life = life;
    // It is there before it does anything: what it passes first may be where it dies.
    this.#agent = Promise.resolve(life.partsOf(this.#parts(life))).then(startAgent);
    this.#agent.catch((error: unknown) => {
      this.#options.log.error("a simulated agent did not start", { node: this.#options.name, error });
      if (this.#life === life) this.crash(1_000);
    });
  }

  /** kill -9 of the agent. It comes back after so long. */
  crash(restartMs: number): void {
    if (!this.#agent) return;
    this.#say("fault.agent-crash");
    this.#end();
    this.host.agentCrashed();
    this.#after(restartMs, () => this.start());
  }

  /** Something happens to it when its agent passes a failpoint the next time, unless this is disposed of before. */
  strikeAt(step: StepName, strike: () => void): Disposable {
    return this.#ambush.lay(step, strike);
  }

  /** The host loses power; without `backMs` for good. */
  lose(backMs: number | undefined): void {
    if (!this.#agent) return;
    this.#say("fault.node-loss");
    this.#end();
    this.host.losePower();
    if (backMs !== undefined) this.#after(backMs, () => this.start());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#timers) timer[Symbol.dispose]();
    const agent = this.#agent;
    this.#agent = undefined;
    await (await agent)?.[Symbol.asyncDispose]();
  }

  #end(): void {
    this.#life.end();
    this.#agent = undefined;
  }

  #after(ms: number, callback: () => void): void {
    const timer = this.#options.clock.after(ms, () => {
      this.#timers.delete(timer);
      callback();
    });
    this.#timers.add(timer);
  }

  #say(step: string, vm?: string, phase?: string): void {
    this.#options.trace({ node: this.#options.name, step, ...(vm !== undefined && { vm }), ...(phase !== undefined && { phase }) });
  }

  #parts(life: Life): AgentParts {
    const { clock: hostClock, name, seed, capacity, log } = this.#options;
    const clock: Clock = {
      wallMs: () => hostClock.wallMs() + this.host.wallOffsetMs,
      monotonicMs: () => hostClock.monotonicMs(),
      bootMs: () => hostClock.bootMs(),
      sleep: (ms, signal) => hostClock.sleep(ms, signal),
      after: (ms, callback) => hostClock.after(ms, callback),
    };
    const failpoints = this.#failpoints(life);
    const driver = openMemoryDriver({ host: this.host, clock, plan: this.#plan, failpoints });
    return {
      clock,
      random: seededRandom(seed, name, "agent", this.#lives),
      failpoints,
      log: log.child({ node: name }),
      dial: (requests, signal) => this.#heard(this.#options.dial(this.#wire(requests), signal)),
      driver,
      probed: { version: "1", acceleration: "none" },
      openGuest: driver.openGuest,
      kernel: "",
      processes: this.host.processes,
      journals: this.host.journals,
      ingredients: this.#ingredients(clock, failpoints),
      fence: this.host.fence,
      network: undefined,
      bootId: this.host.bootId,
      bootLimitMs: this.#options.bootLimitMs,
      capacity,
      available: async () => capacity,
      labels: { ...this.#options.labels },
      openTunnels: this.#options.openTunnels,
      answerImages: async ({ requestId }) => ({ requestId, reason: "", message: "", inventory: { images: [] }, freed: undefined }),
    };
  }

  #failpoints(life: Life): Failpoints {
    return {
      at: async (step, vmId) => {
        this.#say(step, vmId);
        const fault = this.#plan.take("agent-crash", vmId, (candidate) => candidate.step === step);
        if (fault && this.#life === life) this.crash(this.#plan.timeMs(fault.restart, fault, vmId));
        if (this.#life === life) this.#ambush.passed(step);
      },
      sending: () => "once", // the wire below loses and doubles
    };
  }

  async *#heard(responses: AsyncIterable<ConnectResponse>): AsyncGenerator<ConnectResponse> {
    for await (const response of responses) {
      if (response.message?.$case === "welcome") this.#linked.resolve();
      yield response;
    }
  }

  /** What the agent sends, as the script lets it through. */
  async *#wire(requests: AsyncIterable<ConnectRequest>): AsyncGenerator<ConnectRequest> {
    for await (const request of requests) {
      if (request.message?.$case !== "report") {
        if (request.message && request.message.$case !== "heartbeat") this.#say(`link.${request.message.$case}`);
        yield request;
        continue;
      }
      const { vmId, phase } = request.message.value;
      const word = phaseToJSON(phase).replace("PHASE_", "");
      const fits = (fault: { readonly phase?: string | undefined }): boolean => fault.phase === undefined || fault.phase === word;
      if (this.#plan.take("lost-report", vmId, fits)) {
        this.#say("fault.lost-report", vmId, word);
        throw new Error("the script cut the connection"); // a stream loses nothing but what was under way at its end
      }
      this.#say("link.report", vmId, word);
      yield request;
      if (word === "RUNNING") this.#loseAfter(vmId);
      if (!this.#plan.take("duplicated-report", vmId, fits)) continue;
      this.#say("fault.duplicated-report", vmId, word);
      yield request;
    }
  }

  #loseAfter(vmId: string): void {
    const fault = this.#plan.take("node-loss", vmId, ({ vm }) => vm !== undefined);
    if (fault) this.#after(0, () => this.lose(fault.back && this.#plan.timeMs(fault.back, fault)));
  }

  /** No image is pulled: there is nothing that would run it. */
  #ingredients(clock: Clock, failpoints: Failpoints): Ingredients {
    const { seed, name } = this.#options;
    return {
      prepare: async ({ assignment: { vmId } }, signal) => {
        const prepareMs = this.#plan.prepareMs(vmId);
        await clock.sleep(prepareMs, signal);
        if (this.#plan.find("disk-full", vmId)) throw diskFull();
        this.host.needDisk();
        await failpoints.at("create.disk.cloned", vmId);
        const random = seededRandom(seed, name, "host-key", this.#plan.ordinal(vmId));
        return {
          ...{ base: "", disk: "", initramfs: "" },
          sshHostKey: sshEd25519Line(Buffer.from(Array.from({ length: 32 }, () => Math.floor(random() * 256)))),
          timings: { ...noTimings, prepare: toDuration(prepareMs) },
        };
      },
      discard: async () => undefined,
      lease: () => ({ [Symbol.dispose]: () => undefined }),
    };
  }
}
