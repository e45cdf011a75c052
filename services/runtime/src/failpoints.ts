// Named places in the code where a test may make something go wrong. In production every place is passed by.
//
// PITWALL_FAILPOINTS=NAME=ACTION,…  NAME is a place (failpoint-list.ts); `NAME#3` is its third passing only. ACTION:
//   exit            the process ends with code 137, at once
//   stop:2s         the process is stopped (SIGSTOP) for 2 s
//   sleep:500ms     the place waits
//   throw           the place throws `internal`
//   enospc          the place throws as a full disk does
//   drop-send       the message that is sent here is lost
//   send-twice      it is sent two times
// The last two are for places where a message is sent, which cannot wait. Names of another program's places are passed by.
// Without PITWALL_ALLOW_FAILPOINTS=1 a process with PITWALL_FAILPOINTS does not start. Each strike appends a line, NAME ACTION, to the file that
// PITWALL_FAILPOINTS_LOG names, before anything else: a process that exits or stops tells nobody afterwards.
import { spawnSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { systemClock, type Clock } from "./clock.ts";
import { duration } from "./config.ts";
import { PitwallError } from "./errors.ts";
import { failpointList, isFailpoint, type FailpointName, type SendName, type StepName } from "./failpoint-list.ts";
import { requireLeave } from "./leave.ts";
import type { Log } from "./log.ts";
import { plantFrom } from "./planted.ts";

/** What becomes of a message. */
export type Sending = "once" | "never" | "twice";

export interface Failpoints {
  /** What is armed, for programs that this one starts; absent: nothing. */
  readonly armed?: string;
  /** Passes a place. `subject` says whose step it is: a VM's id, for instance. */
  at(name: StepName, subject?: string): Promise<void>;
  /** Passes a place where a message is sent. */
  sending(name: SendName, subject?: string): Sending;
}

/** Passes all places by. */
export const noFailpoints: Failpoints = { at: async () => undefined, sending: () => "once" };

type Action =
  | { readonly kind: "exit" | "throw" | "enospc" | "drop-send" | "send-twice" }
  | { readonly kind: "stop" | "sleep"; readonly ms: number };

interface Armed {
  readonly name: FailpointName;
  /** Undefined: every passing. */
  readonly passing: number | undefined;
  readonly action: Action;
}

const pattern = /^([a-z][a-z0-9.-]*)(?:#(\d+))?=(exit|throw|enospc|drop-send|send-twice|stop|sleep)(?::(\w+))?$/;

/**
 * What the environment arms, or {@link noFailpoints}; plants a bug, too, where it asks for one. Throws `invalid` for what makes no sense, and
 * where it is not allowed.
 */
export function failpointsFrom(env: NodeJS.ProcessEnv, log: Log, clock: Clock = systemClock): Failpoints {
  plantFrom(env, log);
  const text = env["PITWALL_FAILPOINTS"];
  if (!text) return noFailpoints;
  requireLeave(env, "PITWALL_FAILPOINTS");
  const armed = text.split(",").map(parseArmed);
  log.warn("FAILPOINTS ARE ARMED: this process breaks on purpose", { failpoints: text });
  const told = env["PITWALL_FAILPOINTS_LOG"];
  const passings = new Map<string, number>();

  function next(name: FailpointName): Action | undefined {
    const passing = (passings.get(name) ?? 0) + 1;
    passings.set(name, passing);
    const action = armed.find((entry) => entry.name === name && (entry.passing ?? passing) === passing)?.action;
    if (action && told) appendFileSync(told, `${name} ${action.kind}\n`);
    return action;
  }

  return {
    armed: text,
    async at(name) {
      const action = next(name);
      if (action?.kind === "sleep") await clock.sleep(action.ms);
      else if (action) strike(name, action);
    },
    sending(name) {
      const action = next(name);
      if (action?.kind === "drop-send") return "never";
      if (action?.kind === "send-twice") return "twice";
      if (action) strike(name, action);
      return "once";
    },
  };
}

/** What needs no waiting. */
function strike(name: FailpointName, action: Action): void {
  switch (action.kind) {
    case "exit":
      return process.exit(137);
    case "stop":
      return stopSelf(action.ms);
    case "throw":
      throw new PitwallError("internal", `the failpoint ${name} threw`);
    case "enospc":
      throw Object.assign(new Error(`ENOSPC: no space left on device, failpoint ${name}`), { code: "ENOSPC", errno: -28 });
    case "sleep":
    case "drop-send":
    case "send-twice":
      return; // elsewhere
  }
}

function parseArmed(text: string): Armed {
  const [, name = "", passing, kind, argument] = pattern.exec(text.trim()) ?? [];
  const refuse = (why: string): PitwallError =>
    new PitwallError("invalid", `PITWALL_FAILPOINTS: ${JSON.stringify(text)} ${why}`, {
      reason: "INVALID_CONFIG",
      field: "PITWALL_FAILPOINTS",
    });
  if (kind === undefined) throw refuse("is not NAME=ACTION, as in create.vmm.spawned=exit");
  if (!isFailpoint(name)) throw refuse("names no failpoint: services/runtime/src/failpoint-list.ts lists them");
  const isSend = failpointList[name].kind === "send";
  if (isSend && kind === "sleep") throw refuse("cannot wait: a message is sent there");
  if (!isSend && /send/.test(kind)) throw refuse("sends no message there");
  const place = { name, passing: passing === undefined ? undefined : Number(passing) };
  if (kind === "stop" || kind === "sleep") {
    const ms = duration.safeParse(argument);
    if (!ms.success) throw refuse(`needs a duration, as in ${kind}:2s`);
    return { ...place, action: { kind, ms: ms.data } };
  }
  if (argument !== undefined) throw refuse(`takes no argument after ${kind}`);
  // The pattern admits no other word.
  return { ...place, action: { kind: kind as Exclude<Action["kind"], "stop" | "sleep"> } };
}

/** Somebody else stops this process and wakes it, in that order whatever else the machine is doing; it is passed after that. */
function stopSelf(ms: number): void {
  spawnSync("sh", ["-c", 'kill -STOP "$2"; sleep "$1"; kill -CONT "$2"', "sh", String(ms / 1000), String(process.pid)], {
    stdio: "ignore",
  });
}
