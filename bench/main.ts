// `npm run bench -- NAME`: measures, side by side with a peer or a limit, and ends with one line of JSON on stdout.
import { parseArgs } from "node:util";
import { messageChain } from "@pitwall/runtime";
import { printResult, type BenchOptions, type Metric } from "./measure.ts";

type Bench = (options: BenchOptions) => Promise<Readonly<Record<string, Metric>>>;

/** Loaded when asked for. */
const benches: Readonly<Record<string, () => Promise<Bench>>> = {
  image: async () => (await import("./image.ts")).image,
  boot: async () => (await import("./boot.ts")).boot,
  guest: async () => (await import("./guest.ts")).guest,
  control: async () => (await import("./control.ts")).control,
  ssh: async () => (await import("./ssh.ts")).ssh,
  gateway: async () => (await import("./gateway.ts")).gateway,
  hostile: async () => (await import("./hostile.ts")).hostile,
  place: async () => (await import("./place.ts")).place,
};

const say = (text: string): void => void process.stderr.write(`${text}\n`);

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { quick: { type: "boolean", default: false } } });
  const [name = "", ...more] = positionals;
  const load = Object.hasOwn(benches, name) ? benches[name] : undefined;
  if (!load || more.length > 0) throw new Error(`usage: npm run bench -- ${Object.keys(benches).join("|")} [--quick]`);
  const bench = await load();
  printResult(name, await bench({ quick: values.quick, say }));
} catch (error) {
  say(`error: ${messageChain(error)}`);
  process.exitCode = 1;
}
process.exit();
