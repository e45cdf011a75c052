// place: decisions of the scheduler per second and how their cost grows with the fleet, beside a plain scan of the same nodes and, where
// there is one, Nomad's own benchmark.
import { place as placeOne, placeByScan } from "@pitwall/controller/src/placement/scheduler.ts";
import type { Policy } from "@pitwall/controller/src/placement/wanted.ts";
import { median, percentile, round, type BenchOptions, type Metric } from "./measure.ts";
import { nomadPerSecond } from "./place-nomad.ts";
import { BenchFleet } from "./place-fleet.ts";

const sizes = [500, 5_000, 10_000] as const;
const policies = ["spread", "bin-pack"] as const;
const fill = 0.65;
const fleetSeed = 1;
/** So few that the smallest fleet is not much fuller for them. */
const recordedAtOnce = 100;
const goals = { perSecond: 10_000, growth: 1.3 } as const;

/** Microseconds per decision; the best of all scores less the score found, of each decision. */
interface Samples {
  readonly decide: number[];
  readonly decideAndRecord: number[];
  readonly scan: number[];
  readonly gaps: number[];
}

const noSamples = (): Samples => ({ decide: [], decideAndRecord: [], scan: [], gaps: [] });

interface Result {
  readonly perSecond: number;
  readonly growth: readonly number[];
  readonly raw: Readonly<Record<string, number>>;
}

export async function place({ quick, say }: BenchOptions): Promise<Readonly<Record<string, Metric>>> {
  const nomad = await nomadPerSecond(say);
  const results = policies.map((policy) => measure(policy, quick, say));
  const perSecond = Math.round(Math.min(...results.map((result) => result.perSecond)));
  const growths = results.map(({ growth }) => growth);
  const steepest = growths.reduce((a, b) => (median(a) > median(b) ? a : b));
  const growth = round(median(steepest));
  const n = steepest.length;
  const raw = Object.fromEntries(results.flatMap((result) => Object.entries(result.raw)));
  if (nomad !== undefined) raw["nomad_per_second_5000"] = Math.round(nomad);
  return {
    per_second_5000: { value: perSecond, unit: "1/s", goal: goals.perSecond, ok: perSecond >= goals.perSecond, n, raw },
    growth_500_to_10000: {
      value: growth,
      p95: round(percentile(steepest, 0.95)),
      unit: "ratio",
      goal: goals.growth,
      ok: growth <= goals.growth,
      n,
    },
  };
}

/** Fleets of all sizes, measured in turn, so that what disturbs one disturbs all. */
function measure(policy: Policy, quick: boolean, say: (text: string) => void): Result {
  const [rounds, decisions, scans] = quick ? [11, 2_000, 5] : [41, 2_000, 10];
  const fleets = sizes.map((size) => {
    const fleet = new BenchFleet(size, policy, fleetSeed);
    fleet.fillTo(fill);
    say(`${policy}: ${fleet.vmCount} VMs on ${size} nodes, ${Math.round(fleet.fill * 100)} % of the memory`);
    return { fleet, samples: noSamples() };
  });
  for (const { fleet } of fleets) measureRound(fleet, noSamples(), decisions, 0, 0); // warm
  for (let n = 0; n < rounds; n++) for (const { fleet, samples } of fleets) measureRound(fleet, samples, decisions, scans, n);
  const [small, middle, large] = fleets.map(({ samples }) => samples);
  if (!small || !middle || !large) throw new Error("three sizes are measured");
  const raw: Record<string, number> = {};
  for (const { fleet, samples } of fleets) {
    const name = `${policy === "spread" ? "spread" : "binpack"}_${fleet.nodeCount}`;
    const gapMean = samples.gaps.reduce((sum, gap) => sum + gap, 0) / Math.max(samples.gaps.length, 1);
    Object.assign(raw, {
      [`${name}_decide_us`]: round(median(samples.decide)),
      [`${name}_decide_and_record_us`]: round(median(samples.decideAndRecord)),
      [`${name}_scan_us`]: round(median(samples.scan)),
      [`${name}_score_gap_mean`]: round(gapMean),
      [`${name}_score_gap_p95`]: round(percentile(samples.gaps, 0.95)),
      [`${name}_same_score_share`]: round(samples.gaps.filter((gap) => gap === 0).length / samples.gaps.length),
      [`${name}_refused`]: fleet.refused,
    });
    say(
      `${name}: ${raw[`${name}_decide_us`]} µs a decision, plain scan ${raw[`${name}_scan_us`]} µs, score gap ${raw[`${name}_score_gap_mean`]}`,
    );
  }
  return {
    perSecond: 1e6 / median(middle.decideAndRecord),
    growth: large.decide.map((us, n) => us / (small.decide[n] ?? us)),
    raw,
  };
}

function measureRound(fleet: BenchFleet, samples: Samples, decisions: number, scans: number, turn: number): void {
  const seed = turn * decisions;
  const wanted = Array.from({ length: decisions }, () => fleet.wanted());
  for (let n = 0; n < decisions; n++) placeOne(fleet.fleet, fleet.wanted(), seed - n); // until then the caches hold the other fleets
  samples.decide.push(
    microseconds(() => {
      for (const [n, one] of wanted.entries()) placeOne(fleet.fleet, one, seed + n);
    }) / decisions,
  );
  for (const [n, one] of wanted.slice(0, scans).entries()) {
    let best: ReturnType<typeof placeByScan>;
    samples.scan.push(microseconds(() => (best = placeByScan(fleet.fleet, one, seed + n))));
    const found = placeOne(fleet.fleet, one, seed + n);
    if (found && best) samples.gaps.push(best.score - found.score);
  }
  let recordUs = 0;
  for (let n = 0; n < decisions; n += recordedAtOnce) {
    recordUs += microseconds(() => {
      for (const one of wanted.slice(n, n + recordedAtOnce)) fleet.decide(one);
    });
    while (fleet.fill > fill) fleet.dropOne();
  }
  samples.decideAndRecord.push(recordUs / decisions);
}

/** Medians of many short runs leave out those that something else interrupted; the system counts CPU time too coarsely for them. */
function microseconds(work: () => void): number {
  const before = performance.now();
  work();
  return (performance.now() - before) * 1000;
}
