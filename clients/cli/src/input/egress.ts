// Where a VM may send to, as --egress says it and as it is shown: rules like `allow,203.0.113.0/24,tcp/443`, and one word for what no rule fits.
import { isIP } from "node:net";
import { InvalidArgumentError, type Command } from "commander";
import { EgressProtocol, EgressVerdict, type Egress, type EgressRule } from "@pitwall/sdk";

const { EGRESS_VERDICT_ALLOW: allow, EGRESS_VERDICT_DENY: deny } = EgressVerdict;
const verdicts = { allow, deny } as const;
const protocols = {
  tcp: EgressProtocol.EGRESS_PROTOCOL_TCP,
  udp: EgressProtocol.EGRESS_PROTOCOL_UDP,
  icmp: EgressProtocol.EGRESS_PROTOCOL_ICMP,
} as const;
const maxPort = 65_535;
const expected = "Expected allow or deny, or a rule such as allow,203.0.113.0/24,tcp/443 (each part but the first may be left out).";

/** In their order; `none`: without rules of its own. */
export type EgressWords = readonly (EgressRule | EgressVerdict)[] | "none";

export interface EgressOption {
  readonly egress?: EgressWords;
}

export function withEgress(command: Command): Command {
  return command.option(
    "--egress <rule>",
    "where it may send to; may be repeated, the first that fits counts: allow,203.0.113.0/24,tcp/443 or deny,udp/53; allow or deny alone for all " +
      "else, which is denied where a rule allows something; none: wherever its node lets it",
    addEgress,
  );
}

/** Adds one rule. Throws `InvalidArgumentError`. */
export function addEgress(text: string, words: EgressWords = []): EgressWords {
  if (text === "none" && words.length === 0) return "none";
  if (text === "none" || words === "none") throw new InvalidArgumentError("none stands alone.");
  const word = text in verdicts ? verdicts[text as keyof typeof verdicts] : parseRule(text); // it is one of them
  if (typeof word === "number" && words.some((one) => typeof one === "number"))
    throw new InvalidArgumentError("All else is allowed or denied, and that is said once.");
  return [...words, word];
}

/** Undefined: nothing was said. */
export function egressOf({ egress: words }: EgressOption): Egress | null | undefined {
  if (words === undefined || words === "none") return words === undefined ? undefined : null;
  const rules = words.filter((word) => typeof word !== "number");
  const said = words.find((word) => typeof word === "number");
  const isAllowed = (rule: EgressRule): boolean => rule.verdict === allow;
  return { rules, otherwise: said ?? (rules.some(isAllowed) ? deny : allow) };
}

/** What a VM has, each as --egress takes it. */
export function egressWords({ rules, otherwise }: Egress): readonly string[] {
  return [...rules.map(ruleWord), verdictWord(otherwise)];
}

function parseRule(text: string): EgressRule {
  const [first = "", ...parts] = text.split(",").map((part) => part.trim());
  if (!(first in verdicts)) throw new InvalidArgumentError(expected);
  let rule: EgressRule = { verdict: verdicts[first as keyof typeof verdicts], network: "", protocol: 0, firstPort: 0, lastPort: 0 }; // the same
  for (const [at, part] of parts.entries()) {
    if (at === 0 && isIP(part.split("/")[0] ?? "") !== 0) rule = { ...rule, network: part };
    else if (at === parts.length - 1) rule = { ...rule, ...parsePorts(part) };
    else throw new InvalidArgumentError(expected);
  }
  return rule;
}

/** `tcp`, `tcp/443`, `udp/5000-5010`, `icmp`, `53`. */
function parsePorts(text: string): Pick<EgressRule, "protocol" | "firstPort" | "lastPort"> {
  const [, word, first = "", last = ""] = /^(?:(tcp|udp|icmp)(?=\/|$)\/?)?(?:(\d{1,5})(?:-(\d{1,5}))?)?$/.exec(text) ?? [];
  const isPort = (port: number): boolean => port >= 1 && port <= maxPort;
  const [firstPort, lastPort] = [Number(first), Number(last)];
  const isSaid = (word !== undefined && !text.endsWith("/")) || first !== "";
  const isGood = isSaid && (first === "" || isPort(firstPort)) && (last === "" || (isPort(lastPort) && lastPort >= firstPort));
  if (!isGood || (word === "icmp" && first !== "")) throw new InvalidArgumentError(expected);
  return { protocol: word === undefined ? 0 : protocols[word as keyof typeof protocols], firstPort, lastPort }; // of the pattern
}

function ruleWord({ verdict, network, protocol, firstPort, lastPort }: EgressRule): string {
  const word = Object.entries(protocols).find(([, number]) => number === protocol)?.[0];
  const ports = firstPort === 0 ? "" : lastPort === 0 || lastPort === firstPort ? String(firstPort) : `${firstPort}-${lastPort}`;
  const where = [word, ports].filter((part) => part !== undefined && part !== "").join("/");
  return [verdictWord(verdict), network, where].filter((part) => part !== "").join(",");
}

function verdictWord(verdict: EgressVerdict): string {
  return verdict === allow ? "allow" : "deny";
}
