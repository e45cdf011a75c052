// Streams of a person end with their role in what they look at. Those of API tokens end with the token, which ends with its maker's role;
// administrators need none.
import { PitwallError } from "@pitwall/runtime";
import type { LiveCalls } from "../access/live-calls.ts";
import { grantOf } from "../projects/members.ts";
import type { Principal } from "../projects/principal.ts";
import { projectNotFound, vmNotFound } from "../projects/reach.ts";
import type { Vms } from "../vm/vms.ts";

/** What is looked at: a VM, or a project, or `-` for all projects. */
interface Looked {
  readonly vm: string;
  readonly project: string;
  readonly resumeToken: string;
}

/** Serves with a signal that aborts, and then throws what is said of something that is not there, seconds after the role is taken away. */
export async function* whileMember<T>(
  vms: Vms,
  roles: LiveCalls,
  caller: Principal,
  { vm, project, resumeToken }: Looked,
  signal: AbortSignal,
  serve: (signal: AbortSignal) => AsyncIterable<T>,
): AsyncGenerator<T> {
  if (caller.isAdmin || caller.token) {
    yield* serve(signal);
    return;
  }
  const projectIds = vm === "" ? [...(await vms.projectIds(caller, project))] : [(await vms.watched(caller, vm, resumeToken)).projectId];
  using call = roles.follow(projectIds.map((id) => grantOf(id, caller.subject)));
  const ended = (): PitwallError => {
    if (vm !== "") return vmNotFound(vm);
    if (project !== "-") return projectNotFound(project);
    return new PitwallError("out-of-range", "you no longer have a role in one of your projects; begin anew without a resume_token", {
      reason: "MEMBERSHIP_CHANGED",
      field: "resume_token",
    });
  };
  try {
    yield* serve(AbortSignal.any([signal, call.signal]));
  } catch (error) {
    throw call.signal.aborted ? ended() : error;
  }
  if (call.signal.aborted) throw ended();
}
