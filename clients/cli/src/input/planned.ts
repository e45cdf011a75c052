// What all changes of VMs take: only to say what they would do, to do exactly what was said, or only to what was seen.
import { Option, type Command } from "commander";
import type { ChangeOptions } from "@pitwall/sdk";

export interface PlannedOptions {
  readonly dryRun?: boolean;
  readonly plan?: string;
}

export interface ChangedOptions extends PlannedOptions {
  readonly etag?: string;
}

/** `whatFor`: what a dry run tells. */
export function withPlan(command: Command, whatFor: string): Command {
  return command
    .option("--dry-run", `only say ${whatFor}, with a token for --plan`)
    .addOption(new Option("--plan <token>", "do exactly what --dry-run said, with the same options, or nothing").conflicts("dryRun"));
}

/** Of a VM that is there. */
export function withChange(command: Command, whatFor = "what it would do"): Command {
  return withPlan(command, whatFor).option("--etag <etag>", "only if the VM is as it was seen: `pitwall get -o json` shows its etag");
}

export function changeOf({ plan, etag }: ChangedOptions): ChangeOptions {
  return { ...(plan !== undefined && { planToken: plan }), ...(etag !== undefined && { etag }) };
}
