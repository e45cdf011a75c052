// --project: the project that a command means.
import { Option } from "commander";

export interface ProjectOption {
  readonly project?: string;
}

/** Without the flag it is the variable's, or the personal project: empty. */
export function projectOption(): Option {
  return new Option("-p, --project <project>", "name or id of the project; default: PITWALL_PROJECT, or your personal project").env(
    "PITWALL_PROJECT",
  );
}
