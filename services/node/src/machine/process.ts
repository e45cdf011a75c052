// What a VM runs: the image's configuration, changed by the VM's own args and env.
import { stopsByHalt, type Healthcheck, type ImageConfig } from "@pitwall/oci";
import { RestartPolicy, type VmSpec } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { GuestConfig, GuestHealthcheck } from "../host/initramfs.ts";

/** As `docker run IMAGE ARGS` does: args replace CMD, ENTRYPOINT stays; env is added by name. */
export function guestProcess(config: ImageConfig, spec: Pick<VmSpec, "args" | "env" | "restartPolicy">): GuestConfig["process"] {
  const env = new Map(config.env.map((entry) => [entry.split("=", 1)[0] ?? "", entry]));
  for (const [name, value] of Object.entries(spec.env)) env.set(name, `${name}=${value}`);
  const argv = [...config.entrypoint, ...(spec.args.length > 0 ? spec.args : config.cmd)];
  return {
    argv,
    env: [...env.values()],
    user: config.user,
    working_dir: config.workingDir,
    stop_signal: config.stopSignal || (stopsByHalt(argv[0]) ? "SIGRTMIN+3" : "SIGTERM"),
    volumes: config.volumes,
    restart: restartWord(spec.restartPolicy),
    ...(config.healthcheck && { healthcheck: guestHealthcheck(config.healthcheck) }),
  };
}

function restartWord(policy: VmSpec["restartPolicy"]): GuestConfig["process"]["restart"] {
  if (policy === RestartPolicy.RESTART_POLICY_ALWAYS) return "always";
  return policy === RestartPolicy.RESTART_POLICY_ON_FAILURE ? "on-failure" : "never";
}

/** What an image leaves out is as with Docker: 30 s, 30 s, none, 5 s, 3 times. */
function guestHealthcheck({ test, intervalMs, timeoutMs, startPeriodMs, startIntervalMs, retries }: Healthcheck): GuestHealthcheck {
  return {
    test,
    interval_ms: intervalMs || 30_000,
    timeout_ms: timeoutMs || 30_000,
    start_period_ms: startPeriodMs,
    start_interval_ms: startIntervalMs || 5_000,
    retries: retries || 3,
  };
}
