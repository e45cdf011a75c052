// The labels of a node: what may be one, for the node that says it and for the controller that takes it.
import { invalid } from "@pitwall/runtime";

export type Labels = Readonly<Record<string, string>>;

/** Sources of patterns. What the terms of a placement can name, and nothing else: a label that none can name would serve nobody. */
export const labelKey = "[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,126}[A-Za-z0-9])?";
export const labelValue = "[A-Za-z0-9_.-]{0,63}";

const maxLabels = 64;
const aKey = new RegExp(`^${labelKey}$`);
const aValue = new RegExp(`^${labelValue}$`);

/** Throws `invalid` that names `field` and the first bad label. */
export function checkLabels(field: string, labels: Labels): Labels {
  const all = Object.entries(labels);
  if (all.length > maxLabels) throw invalid(field, `holds ${all.length} labels; the limit is ${maxLabels}`);
  for (const [key, value] of all) {
    if (!aKey.test(key))
      throw invalid(
        field,
        `a label's key is 1 to 128 letters, digits and any of _./- between them, got ${JSON.stringify(key.slice(0, 160))}`,
      );
    if (!aValue.test(value))
      throw invalid(
        field,
        `the value of ${key} must be at most 63 letters, digits and any of _.-, got ${JSON.stringify(value.slice(0, 80))}`,
      );
  }
  return labels;
}
