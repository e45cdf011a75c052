// Nomad's own benchmark of its scheduler, where somebody has built it: it is not ours to fetch or to ship.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const variable = "PITWALL_BENCH_NOMAD";
const allocations = 1_200;
const name = `^BenchmarkServiceScheduler$/^5000_nodes_75_racks_${allocations}_allocs_spread$`;
const timeoutMs = 300_000;

/**
 * Allocations per second that Nomad places on 5,000 nodes, in one evaluation of all of them, which is the kindest case for it. Undefined,
 * and said so, when the variable does not name the test binary of its package `scheduler/benchmarks` (`go test -c`, v1.6.9).
 */
export async function nomadPerSecond(say: (text: string) => void): Promise<number | undefined> {
  const binary = process.env[variable];
  if (!binary) {
    say(`NOT MEASURED: Nomad, since ${variable} does not name a test binary of its scheduler/benchmarks (v1.6.9)`);
    return undefined;
  }
  const { stdout } = await run(binary, ["-test.run=^$", `-test.bench=${name}`, "-test.benchtime=3x", "-test.cpu=1"], {
    timeout: timeoutMs,
  });
  const nsPerRun = Number(/\s([\d.]+) ns\/op/.exec(stdout)?.[1]);
  if (!(nsPerRun > 0)) throw new Error(`${variable}: ${binary} ran no benchmark that matches ${name}`);
  return allocations / (nsPerRun / 1e9);
}
