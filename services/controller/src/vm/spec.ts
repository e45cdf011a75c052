// A VM's specification: defaults and limits.
import { parseReference, formatReference } from "@pitwall/oci";
import { RestartPolicy, type VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid } from "@pitwall/runtime";
import { checkBandwidth } from "./bandwidth.ts";
import { checkEgress } from "./egress.ts";
import { checkPlacement } from "./placement-spec.ts";
import { parseSshKey } from "./ssh-keys.ts";

const mib = 2n ** 20n;
const gib = 2n ** 30n;
const limits = {
  cpuMillis: { default: 1000, min: 100, max: 64_000 },
  memBytes: { default: 256n * mib, min: 128n * mib, max: 1024n * gib },
  diskBytes: { default: 4n * gib, min: 64n * mib, max: 16_384n * gib },
} as const;
const maxKeys = 64;
const maxEnv = 256;
const maxArgs = 256;
const maxLabels = 64;
const maxTextBytes = 64 * 1024;

/** The spec with all defaults filled in. Throws `invalid` naming the first bad field. */
export function checkSpec(spec: VmSpec | undefined): VmSpec {
  if (!spec) throw invalid("spec", "is required");
  const image = formatReference(parseReference(spec.image, "spec.image"));
  const authorizedKeys = spec.authorizedKeys.map((key, at) => parseSshKey(key, `spec.authorized_keys[${at}]`).line);
  if (authorizedKeys.length > maxKeys)
    throw invalid("spec.authorized_keys", `holds ${authorizedKeys.length} keys; the limit is ${maxKeys}`);
  if (spec.restartPolicy < 0 || spec.restartPolicy > RestartPolicy.RESTART_POLICY_ALWAYS)
    throw invalid("spec.restart_policy", `must be a policy that this version knows, got ${spec.restartPolicy}`);
  checkPlacement(spec);
  checkBandwidth(spec);
  checkTexts("spec.args", spec.args, maxArgs);
  checkTexts(
    "spec.env",
    Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    maxEnv,
  );
  for (const name of Object.keys(spec.env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw invalid("spec.env", `${JSON.stringify(name.slice(0, 80))} is not a variable name`);
  }
  checkTexts(
    "spec.labels",
    Object.entries(spec.labels).map(([name, value]) => `${name}=${value}`),
    maxLabels,
  );
  return {
    ...spec,
    image,
    egress: checkEgress(spec.egress),
    authorizedKeys: [...new Set(authorizedKeys)],
    cpuMillis: spec.cpuMillis === 0 ? limits.cpuMillis.default : within("spec.cpu_millis", spec.cpuMillis, limits.cpuMillis, String),
    memBytes:
      spec.memBytes === 0n
        ? limits.memBytes.default
        : within("spec.mem_bytes", spec.memBytes, limits.memBytes, inMib) - (spec.memBytes % mib),
    diskBytes:
      spec.diskBytes === 0n
        ? limits.diskBytes.default
        : within("spec.disk_bytes", spec.diskBytes, limits.diskBytes, inMib) - (spec.diskBytes % mib),
  };
}

function within<T extends number | bigint>(field: string, value: T, { min, max }: { min: T; max: T }, show: (value: T) => string): T {
  if (value < min || value > max) throw invalid(field, `must be ${show(min)} to ${show(max)}, got ${show(value)}`);
  return value;
}

const inMib = (value: bigint): string => `${value / mib} MiB`;

function checkTexts(field: string, texts: readonly string[], maxCount: number): void {
  if (texts.length > maxCount) throw invalid(field, `holds ${texts.length} entries; the limit is ${maxCount}`);
  if (texts.some((text) => text.includes("\0"))) throw invalid(field, "holds a NUL character");
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (bytes > maxTextBytes) throw invalid(field, `holds ${bytes} bytes; the limit is ${maxTextBytes}`);
}
