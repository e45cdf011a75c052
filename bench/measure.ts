// Statistics and the one line of JSON that every benchmark ends with.

/** The middle of the sorted values; the mean of the two middle ones when their number is even. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2; // not empty by contract
}

/** Smallest value that at least `share` (0 to 1) of the values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!; // not empty by contract
}

/** One figure with its goal. `raw` holds both sides' medians. */
export interface Metric {
  readonly value: number;
  readonly p95?: number;
  readonly unit: string;
  readonly goal: number;
  readonly ok: boolean;
  readonly n: number;
  readonly raw?: Readonly<Record<string, number>>;
}

/** Prints the result; the last line on stdout. */
export function printResult(bench: string, metrics: Readonly<Record<string, Metric>>): void {
  process.stdout.write(`${JSON.stringify({ bench, metrics })}\n`);
}

/** Three decimals are more than any of these clocks can tell. */
export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** What every benchmark is given. */
export interface BenchOptions {
  /** Fewer rounds. */
  readonly quick: boolean;
  readonly say: (text: string) => void;
}
