// The labels that a node says it has, as its configuration gives them.
import { checkLabels, type Labels } from "@pitwall/enroll";
import { invalid, messageChain } from "@pitwall/runtime";
import { z } from "zod";

/** By key, the values that simulated nodes take in turns; one for all is the plain case. */
export type LabelChoices = Readonly<Record<string, readonly string[]>>;

/** `zone=a,disk=ssd`, or `zone=a|b|c` for nodes that are simulated. A later one replaces an earlier one of that key. */
export const labelChoices = z.string().transform((text, context): LabelChoices => {
  const items = text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
  const choices = new Map<string, readonly string[]>();
  try {
    for (const item of items) {
      const at = item.indexOf("=");
      if (at < 1) throw invalid("label", `expected KEY=VALUE, got ${JSON.stringify(item.slice(0, 80))}`);
      choices.set(item.slice(0, at), item.slice(at + 1).split("|"));
    }
    for (const [key, values] of choices) for (const value of values) checkLabels("label", { [key]: value });
    checkLabels("label", Object.fromEntries([...choices.keys()].map((key) => [key, ""])));
  } catch (error) {
    context.addIssue({ code: "custom", message: messageChain(error) });
    return z.NEVER;
  }
  return Object.fromEntries(choices);
});

/** Of the node of this number, from 0; undefined: of one that is not simulated, which cannot take turns. Throws `invalid`. */
export function labelsOf(choices: LabelChoices, index: number | undefined): Labels {
  return Object.fromEntries(
    Object.entries(choices).map(([key, values]) => {
      if (index === undefined && values.length > 1)
        throw invalid("PITWALL_LABEL", `the label ${key} has ${values.length} values; only simulated nodes take turns`);
      return [key, values[(index ?? 0) % values.length] ?? ""];
    }),
  );
}
