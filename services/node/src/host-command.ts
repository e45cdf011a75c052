// `pitwall node setup|doctor|reset`: makes this host's network, examines it, takes it away. A program of its own, in which no agent runs.
import { messageChain, PitwallError } from "@pitwall/runtime";
import { readNodeConfig } from "./config.ts";
import { journalsIn, readJournals } from "./host/journal-files.ts";
import { examine } from "./network/doctor.ts";
import { readFacts } from "./network/facts.ts";
import { clearGround, layGround } from "./network/ground.ts";
import { rulesIn } from "./network/host-network.ts";
import { lockNetwork } from "./network/network-lock.ts";
import { networkSettings } from "./network/settings.ts";

const [word, format] = process.argv.slice(2);
const isJson = format === "--json";
/** Column of the findings. */
const checkWidth = 18;

try {
  await run();
} catch (error) {
  process.stderr.write(`error: ${messageChain(error)}\n`);
  process.exitCode = error instanceof PitwallError && error.fault === "invalid" ? 2 : 1;
}

async function run(): Promise<void> {
  const config = readNodeConfig(process.env);
  const settings = await networkSettings(config);
  switch (word) {
    case "setup": {
      await using _ = await lockNetwork();
      const { entries } = await readJournals(journalsIn(config.PITWALL_STATE_DIR)); // VMs run on while no agent does
      const { mtu, changes } = await layGround(settings, rulesIn(entries));
      const { cidr, cidr6, gateway, gateway6 } = settings.subnet;
      return show(
        { subnet: cidr, subnet6: cidr6, gateway, gateway6, mtu, changes },
        changes.length === 0 ? ["nothing to change"] : changes,
      );
    }
    case "reset": {
      await using _ = await lockNetwork();
      const changes = await clearGround(settings.stateDir);
      return show({ changes }, changes.length === 0 ? ["nothing to remove"] : changes);
    }
    case "doctor": {
      const findings = examine(await readFacts(settings.resolvers), settings.subnet);
      if (findings.some(({ verdict }) => verdict === "fail")) process.exitCode = 1;
      const lines = findings.flatMap(({ check, verdict, found, remedy }) => [
        `${verdict.padEnd(4)}  ${check.padEnd(checkWidth)} ${found}`,
        ...(remedy === "" ? [] : [`${" ".repeat(7 + checkWidth)}-> ${remedy}`]),
      ]);
      return show({ ok: process.exitCode !== 1, findings }, lines);
    }
    case undefined:
    default:
      throw new PitwallError("invalid", "expected setup, doctor or reset");
  }
}

function show(data: object, lines: readonly string[]): void {
  process.stdout.write(isJson ? `${JSON.stringify(data)}\n` : `${lines.join("\n")}\n`);
}
