// What a VM runs: the image's configuration, changed by the VM's own args and env.
import type { ImageConfig } from "@pitwall/oci";
import type { VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { GuestConfig } from "../host/initramfs.ts";

/** As `docker run IMAGE ARGS` does: args replace CMD, ENTRYPOINT stays; env is added by name. */
export function guestProcess(config: ImageConfig, spec: Pick<VmSpec, "args" | "env">): GuestConfig["process"] {
  const env = new Map(config.env.map((entry) => [entry.split("=", 1)[0] ?? "", entry]));
  for (const [name, value] of Object.entries(spec.env)) env.set(name, `${name}=${value}`);
  return {
    argv: [...config.entrypoint, ...(spec.args.length > 0 ? spec.args : config.cmd)],
    env: [...env.values()],
    user: config.user,
    working_dir: config.workingDir,
    stop_signal: config.stopSignal || "SIGTERM",
    volumes: config.volumes,
  };
}
