// The environment of a service that is started by a command: the caller's, with flags in place of variables. No I/O.
import { resolve } from "node:path";
import { defaultStateDir, optionKey, serviceFlags, type ServiceName } from "./flags.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** A flag wins over its variable. Paths become absolute, of `folder`. */
export function serviceEnvironment(
  service: ServiceName,
  options: Readonly<Record<string, string | true | undefined>>,
  env: Environment,
  folder: string,
): Environment {
  const given = serviceFlags[service].flatMap((flag) => {
    const value = options[optionKey(flag)];
    if (value === undefined) return [];
    return [[flag.variable, value === true ? "true" : absolute(flag.kind, value, folder)] as const];
  });
  const stateDir = env["PITWALL_STATE_DIR"] || defaultStateDir(service);
  return { ...env, PITWALL_STATE_DIR: stateDir, ...Object.fromEntries(given) };
}

function absolute(kind: "text" | "path" | "paths", value: string, folder: string): string {
  switch (kind) {
    case "text":
      return value;
    case "path":
      return resolve(folder, value);
    case "paths":
      return value
        .split(",")
        .filter((path) => path.trim() !== "")
        .map((path) => resolve(folder, path.trim()))
        .join(",");
  }
}
