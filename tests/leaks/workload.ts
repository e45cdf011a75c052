// VMs that come and go: through the public API, several at once, in several projects.
import { connect } from "node:net";
import { Phase, type Pitwall, type Vm } from "@pitwall/sdk";

const wayInLimitMs = 20_000;
const goneLimitMs = 120_000;
const echoPort = 7;
const maxTries = 3;

export interface Workload {
  readonly client: Pitwall;
  readonly count: number;
  readonly concurrency: number;
  /** By name; VMs take turns. */
  readonly projects: readonly string[];
  readonly image: string;
  /** Called with each VM while it runs. */
  readonly visit: (vm: Vm, index: number) => Promise<void>;
  /** Called after each VM that has come and gone. */
  readonly onDone: (done: number) => void;
  /** Aborted, no more come; those that are there go. */
  readonly signal: AbortSignal;
}

/** Resolves when nothing is left of the last one, to how many there were. Throws for a VM that does not come, or does not go. */
export async function comeAndGo({ client, count, concurrency, projects, image, visit, onDone, signal }: Workload): Promise<number> {
  let done = 0;
  const indices = Array.from({ length: count }, (_, index) => index).values();
  const work = async (): Promise<void> => {
    for (const index of indices) {
      if (signal.aborted) return;
      const project = projects[index % projects.length] ?? "";
      const { id } = await client.vms.create({ project, spec: { image, memBytes: BigInt(128 * 2 ** 20), cpuMillis: 500 } });
      const vm = await client.vms.wait(id);
      if (vm.phase !== Phase.PHASE_RUNNING) throw new Error(`VM ${id} did not come: ${vm.reason} ${vm.message}`);
      await visit(vm, index);
      await client.vms.waitUntilGone(await client.vms.delete(id), { timeoutMs: goneLimitMs });
      onDone(++done);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  return done;
}

/** A way into a simulated VM, whose ports echo, through the gateway and its node; it is closed once it has answered. */
export async function echo(port: number, token: string, vm: Vm): Promise<void> {
  let answer = "";
  for (let tries = 0; tries < maxTries; tries++) {
    answer = await askEcho(port, token, vm);
    if (answer === "") return;
    if (!answer.startsWith("HTTP/1.1 503")) break; // a busy host's node may be late
  }
  throw new Error(`the way into VM ${vm.id} answered ${JSON.stringify(answer.slice(0, 200))}`);
}

/** What came instead of an echo; empty: it echoed. */
async function askEcho(port: number, token: string, vm: Vm): Promise<string> {
  const said = `echo of ${vm.id}`;
  const lines = [`GET /vm/${vm.id}/${echoPort} HTTP/1.1`, "host: gateway", `authorization: Bearer ${token}`];
  const socket = connect({ port, host: "127.0.0.1", signal: AbortSignal.timeout(wayInLimitMs) });
  let heard = "";
  try {
    socket.write(`${lines.join("\r\n")}\r\nconnection: Upgrade\r\nupgrade: pitwall-tcp\r\n\r\n${said}`);
    for await (const chunk of socket) if ((heard += String(chunk)).includes(said)) return "";
    return heard;
  } finally {
    socket.destroy();
  }
}
