// Clients of several controllers at once, who make VMs, ask again, and remove them, while controllers come and go; and who watch.
import { randomUUID } from "node:crypto";
import { Phase, type Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { systemClock } from "@pitwall/runtime";
import { ClientError, Status } from "nice-grpc";
import { eventually, type AdminApi } from "./installation.ts";

const againMs = 50;
/** What the connection, or the controller that goes, says: whoever hears it asks again, with the same request id. */
const passing: ReadonlySet<Status> = new Set([Status.UNAVAILABLE]);

/** Of the moment: controllers are replaced. */
export type Apis = () => readonly AdminApi[];

export interface TrafficOptions {
  readonly apis: Apis;
  readonly image: string;
  /** How many clients, each with one call at a time. */
  readonly clients: number;
}

/** Disposing it ends the calls. */
export class Traffic implements AsyncDisposable {
  readonly #options: TrafficOptions;
  readonly #working: Promise<unknown>;
  readonly #stop = new AbortController();
  #turn = 0;
  #done = 0;
  /** VMs that somebody was told of, by their id: all that the answers said of it. */
  readonly acknowledged = new Map<string, string>();
  /** Of which the deletion was acknowledged. */
  readonly deleted = new Set<string>();
  /** Answers that no client should see. */
  readonly faults: string[] = [];
  /** How often somebody had to ask again. */
  repeats = 0;
  /** The longest that one call took, with its repeats. */
  longestMs = 0;

  constructor(options: TrafficOptions) {
    this.#options = options;
    this.#working = Promise.all(Array.from({ length: options.clients }, (_, index) => this.#work(index)));
  }

  /** Resolves once so many calls more have been answered. */
  async more(calls: number): Promise<void> {
    const goal = this.#done + calls;
    await eventually(() => this.#done >= goal || this.faults.length > 0 || undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#working;
  }

  async #work(index: number): Promise<void> {
    const own: string[] = [];
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      const name = `vm-${index}-${n}`;
      const request = { ...{ requestId: randomUUID(), name }, spec: specOf(this.#options.image) };
      const made = await this.#ask(`create ${name}`, async ({ vms }) => (await vms.createVm(request)).vm);
      if (!made) continue;
      this.acknowledged.set(made.id, made.name);
      own.push(made.id);
      // The answer may have been lost: whoever is asked, in whichever release, gives the same one.
      const again = await this.#ask(`create ${name} again`, async ({ vms }) => (await vms.createVm(request)).vm);
      if (again && again.id !== made.id) this.faults.push(`${name} was made twice: ${made.id}, ${again.id}`);
      await this.#ask(`get ${name}`, async ({ vms }) => (await vms.getVm({ vm: made.id })).vm);
      if (n % 4 === 0) continue; // some stay
      const vm = own.shift() ?? "";
      const removal = { vm, requestId: randomUUID() };
      const removed = await this.#ask(`delete ${vm}`, async ({ vms }) => (await vms.deleteVm(removal)).vm);
      if (removed) this.deleted.add(vm);
    }
  }

  async #ask<T>(what: string, call: (api: AdminApi) => Promise<T>): Promise<T | undefined> {
    const since = performance.now();
    for (;;) {
      const apis = this.#options.apis();
      try {
        const answer = await call(apis[this.#turn++ % apis.length] ?? never());
        this.#done++;
        this.longestMs = Math.max(this.longestMs, performance.now() - since);
        return answer;
      } catch (error) {
        if (!(error instanceof ClientError) || !passing.has(error.code)) {
          this.faults.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
          return undefined;
        }
        this.repeats++;
        await systemClock.sleep(againMs);
      }
    }
  }
}

/** One client's view of all VMs, over the ends of its streams. */
export class Watch implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  readonly #synced = Promise.withResolvers<void>();
  /** What happened once it had seen all that there was: `VM REVISION` each. */
  readonly seen: string[] = [];
  readonly faults: string[] = [];
  /** How often it had to begin again where it was. */
  resumed = 0;

  constructor(apis: Apis, first: number) {
    this.#running = this.#run(apis, first);
  }

  get synced(): Promise<void> {
    return this.#synced.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(apis: Apis, first: number): Promise<void> {
    const { signal } = this.#stop;
    let token = "";
    for (let turn = first; !signal.aborted; turn++) {
      const now = apis();
      const { vms } = now[turn % now.length] ?? never();
      try {
        for await (const { vm, resumeToken, synced } of vms.watchVms({ resumeToken: token }, { signal })) {
          if (vm && token !== "") this.seen.push(`${vm.id} ${vm.etag}`);
          if (resumeToken !== "") token = resumeToken;
          if (synced) this.#synced.resolve();
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ClientError) || !passing.has(error.code))
          this.faults.push(`watch: ${error instanceof Error ? error.message : String(error)}`);
      }
      this.resumed++;
      await systemClock.sleep(againMs);
    }
  }
}

/** Made, and running. */
export async function makeStanding(api: AdminApi, image: string, names: readonly string[]): Promise<Vm[]> {
  await Promise.all(names.map((name) => api.vms.createVm({ name, requestId: randomUUID(), spec: specOf(image) })));
  return Promise.all(
    names.map((name) =>
      eventually(async () => {
        const { vm } = await api.vms.getVm({ vm: name });
        return vm?.phase === Phase.PHASE_RUNNING ? vm : undefined;
      }),
    ),
  );
}

const specOf = (image: string): { image: string; cpuMillis: number; memBytes: bigint; diskBytes: bigint } => ({
  image,
  cpuMillis: 100,
  memBytes: 128n << 20n,
  diskBytes: 64n << 20n,
});

function never(): never {
  throw new Error("there is no controller");
}
