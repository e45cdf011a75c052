// --project: the project that a command means, and the VMs in it.
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

/** A VM as the API is asked for it: an id, and `PROJECT/NAME`, stand for themselves. */
export function vmIn({ project = "" }: ProjectOption, name: string): string {
  return project === "" || name.includes("/") || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name) ? name : `${project}/${name}`;
}
