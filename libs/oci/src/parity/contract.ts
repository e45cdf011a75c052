// The parity contract: what a VM makes of each field of an image configuration, compared with a container runtime.
// Pure. docs/parity.md is printed from these rules by contract.test.ts; tests/parity.test.ts compares them with runc.
import type { ImageConfig } from "../image.ts";
import { fields, otherFields, type Case } from "./fields.ts";
import type { FieldVerdict } from "./verdict.ts";

/** A verdict for every field, set or not, in a fixed order; then for whatever else the image sets. */
export function judge(config: ImageConfig): FieldVerdict[] {
  const known = fields.map(({ field, value, cases }) => {
    const set = value(config);
    const { parity, why } = cases.find(({ holds }) => holds?.(config) ?? true) ?? noCase(field);
    return { field, value: isSet(set) ? JSON.stringify(set) : "", parity, why };
  });
  const others = Object.entries(config.others).map(([field, value]) => {
    const { parity, why } = otherFields.find(({ names }) => names.test(field)) ?? noCase(field);
    return { field, value, parity, why };
  });
  return [...known, ...others];
}

/** What `strict` refuses. */
export function ignoredFields(config: ImageConfig): FieldVerdict[] {
  return judge(config).filter(({ parity }) => parity === "ignored");
}

const isSet = (value: unknown): boolean =>
  value !== undefined && value !== "" && !(typeof value === "object" && value !== null && Object.keys(value).length === 0);

function noCase(field: string): Case {
  throw new Error(`the contract has no case for ${field}`);
}
