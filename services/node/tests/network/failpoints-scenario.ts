// Lives of an agent's network that end, or fail, at a failpoint, in a network namespace of their own; each is a process. Prints what was seen as a
// line of JSON. Run by failpoints.test.ts: `unshare -n node failpoints-scenario.ts DIR`; a life is `… DIR come-and-go|sweep|stay`.
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { failpointsFrom, openLog } from "@pitwall/runtime";
import { namesOf, parseSubnet, type VmPort } from "../../src/network/address-plan.ts";
import { openBridgeNetwork } from "../../src/network/bridge-network.ts";
import { denyAll } from "../../src/network/egress.ts";

const places = ["net.rules", "net.tap", "net.tap.gone", "net.rules.gone"] as const;
const tries = 3;
const [dir = "", life = ""] = process.argv.slice(2);
const subnet = parseSubnet("172.30.0.0/16");
const settings = { stateDir: dir, subnet, resolvers: [], allowed: [], denied: [] };
const kept: VmPort = { vmId: "11111111-1111-4111-8111-111111111111", epoch: 1n, address: "172.30.0.2", egress: denyAll };
const other: VmPort = { vmId: "22222222-2222-4222-8222-222222222222", epoch: 1n, address: "172.30.0.3", egress: denyAll };
const struckFile = `${dir}-struck`;

/** As whoever asks for it does: again, until it is so. */
async function insist(step: () => Promise<void>): Promise<void> {
  for (let at = 1; ; at++)
    try {
      return await step();
    } catch (error) {
      if (at === tries) throw error;
    }
}

/** A life of the agent's network: journals name `kept`, and `other` while it comes and goes. */
async function live(): Promise<void> {
  const log = openLog("network", "error");
  const rules = new Map([kept, ...(life === "sweep" ? [] : [other])].map(({ vmId, egress }) => [vmId, { egress }] as const));
  await using network = await openBridgeNetwork(settings, rules, log, failpointsFrom(process.env, log));
  if (life === "stay") await network.join(kept);
  await network.keepOnly(new Set(rules.keys()));
  if (life === "sweep") return;
  await insist(() => network.join(other));
  if (life === "come-and-go") await insist(() => network.leave(other.vmId));
}

function begin(what: string, armed?: string): number | null {
  const armedEnv =
    armed === undefined ? {} : { PITWALL_FAILPOINTS: armed, PITWALL_ALLOW_FAILPOINTS: "1", PITWALL_FAILPOINTS_LOG: struckFile };
  const program = [join(import.meta.dirname, "failpoints-scenario.ts"), dir, what];
  return spawnSync(process.execPath, program, { env: { ...process.env, ...armedEnv }, stdio: ["ignore", "inherit", "inherit"] }).status;
}

function must(what: string): void {
  const code = begin(what);
  if (code !== 0) throw new Error(`a life in which nothing breaks ended with code ${code}`);
}

/** Everything of the host's network, a line each; what a set holds, an element each. */
function listing(): readonly string[] {
  const said = (name: string, ...args: readonly string[]): string[] =>
    execFileSync(name, args, { encoding: "utf8" })
      .split(/\n|, /)
      .map((line) => `${name}: ${line.trim()}`);
  return [
    ...said("nft", "-s", "list", "ruleset"),
    ...said("ip", "-br", "link"),
    ...said("ip", "route", "show", "table", "all"),
    ...said("ip", "-6", "route", "show", "table", "all"),
    ...said("ip", "neigh", "show", "nud", "all"),
    ...said("bridge", "fdb", "show"),
  ].filter((line) => !line.endsWith(": "));
}

/** What `now` has more, also where it has the same more often. */
function more(now: readonly string[], before: readonly string[]): string[] {
  const rest = [...before];
  return now.filter((line) => {
    const at = rest.indexOf(line);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}

function tell(): void {
  execFileSync("ip", ["link", "set", "lo", "up"]);
  must("stay");
  const ofBoth = listing();
  must("sweep");
  const before = listing();
  const [mine, its] = [namesOf(subnet, kept), namesOf(subnet, other)];
  const passages = places.flatMap((place) =>
    (["exit", "throw"] as const).map((action) => {
      rmSync(struckFile, { force: true });
      const code = begin("come-and-go", `${place}#1=${action}`);
      if (action === "exit") must("sweep"); // the next life, whose journals do not know the VM any more
      const now = listing();
      return { place, action, code, struck: readFileSync(struckFile, "utf8"), left: more(now, before), taken: more(before, now) };
    }),
  );
  must("come-and-go");
  const shared = Object.values(mine).filter((name) => Object.values(its).includes(name));
  const result = { passages, shared, ofVm: more(ofBoth, before).length, leftAtTheEnd: more(listing(), before) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

if (life === "") tell();
else await live();
