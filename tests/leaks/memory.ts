// The memory of processes over a run: read as it goes, told at the end.

/** Of one process, in MiB: the middle of the readings in the second and in the last quarter of the run. */
export interface MemoryOf {
  readonly startMib: number;
  readonly secondQuarterMib: number;
  readonly lastQuarterMib: number;
  readonly mostMib: number;
}

export interface MemoryLog {
  /** Forgets what was read before. */
  begin(): void;
  look(): void;
  end(): void;
  /** The latest reading, for people. */
  words(): string;
  result(): Readonly<Record<string, MemoryOf>>;
}

const mib = 2 ** 20;

/** `read` gives bytes by process. */
export function openMemoryLog(read: () => Readonly<Record<string, number>>): MemoryLog {
  let readings: Readonly<Record<string, number>>[] = [];
  const look = (): void => void readings.push(read());
  return {
    begin() {
      readings = [];
      look();
    },
    look,
    end: look,
    words: () =>
      Object.entries(readings.at(-1) ?? {})
        .map(([name, bytes]) => `${name} ${Math.round(bytes / mib)} MiB`)
        .join(", "),
    result: () => Object.fromEntries(Object.keys(readings[0] ?? {}).map((name) => [name, summary(readings.map((one) => one[name] ?? 0))])),
  };
}

function summary(bytes: readonly number[]): MemoryOf {
  const quarter = (from: number): number => middle(bytes.slice(Math.floor(bytes.length * from), Math.ceil(bytes.length * (from + 0.25))));
  return {
    startMib: rounded(bytes[0] ?? 0),
    secondQuarterMib: rounded(quarter(0.25)),
    lastQuarterMib: rounded(quarter(0.75)),
    mostMib: rounded(Math.max(...bytes)),
  };
}

const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
const rounded = (bytes: number): number => Math.round((bytes / mib) * 10) / 10;
