// How the CLI fails: its own refusals, what a server's refusal means to a person, and the exit code of each.
import type { PitwallRpcError } from "@pitwall/sdk";

export const exitCodes = { ok: 0, failure: 1, usage: 2 } as const;

/** One sentence for a person, with what to do about it. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "CliError";
    this.exitCode = options.exitCode ?? exitCodes.failure;
  }
}

/** The command line makes no sense: exit code 2. */
export function usageError(message: string): CliError {
  return new CliError(message, { exitCode: exitCodes.usage });
}

/** Where a call went, for the words of its failure. */
export interface CallPlace {
  readonly endpoint: string;
  /** The token is the environment's, which no sign-in renews. */
  readonly hasOwnToken: boolean;
  /** Of the command, where it has another flag for a field than others have. */
  readonly flags?: FlagsOfFields;
}

/** Request fields by the flag that fills them. */
export type FlagsOfFields = Readonly<Record<string, string>>;

/** Where a command has none of its own for a field. */
const flagOf: FlagsOfFields = {
  name: "--name",
  image: "IMAGE",
  role: "--role",
  public_key: "FILE",
  "spec.image": "IMAGE",
  "spec.cpu_millis": "--cpu",
  "spec.mem_bytes": "--memory",
  "spec.disk_bytes": "--disk",
  "spec.env": "--env",
  "spec.labels": "--label",
  "spec.args": "ARGS",
  "spec.authorized_keys": "--key",
  project: "--project",
  "value.name": "--name",
  "value.undelete_window": "--undelete-window",
  "value.ssh_logins.member": "--member-logins",
  "value.ssh_logins.owner": "--owner-logins",
  description: "--description",
  methods: "--method",
  ttl: "--ttl",
  "ingress.host": "--host",
  "ingress.port": "--http-port",
  "ingress.public_ports": "--port",
  filter: "--filter",
};

type Refusal = Pick<PitwallRpcError, "code" | "reason" | "field" | "message">;

/** What a server's refusal means, and what to do. */
export function explainRefusal({ code, reason, field, message }: Refusal, { endpoint, hasOwnToken, flags = {} }: CallPlace): string {
  switch (code) {
    case "UNAUTHENTICATED":
      if (hasOwnToken) return `${endpoint} does not accept PITWALL_TOKEN: ${message}`;
      return `${endpoint} does not accept your sign-in (${message.replace(/: sign in again$/, "")}): sign in with \`pitwall login ${endpoint}\``;
    case "NOT_FOUND":
      return `${message}${lists(reason)}`;
    case "UNAVAILABLE":
      return /try again/.test(message) ? message : `${message}; try again in a moment`;
    case "UNKNOWN":
      return /fetch|network|transport/i.test(message)
        ? `no gateway answers at ${endpoint}: is it running, and is the address right?`
        : message;
    case "ABORTED":
      return `${message}; try again`;
    case "UNIMPLEMENTED":
      return reason === "" ? `${endpoint} cannot do that (${message}): it may be older than this command` : message;
    case "INTERNAL":
      return `the server at ${endpoint} failed (${message}); its log says more`;
    default:
      return withFlag(message, field ?? "", flags);
  }
}

/** `spec.mem_bytes: must be …` names a field; people wrote a flag. */
function withFlag(message: string, field: string, flags: FlagsOfFields): string {
  const indexed = /^(.*)\[\d+\]$/.exec(field);
  const name = indexed?.[1] ?? field;
  const flag = flags[name] ?? flagOf[name];
  return flag !== undefined && message.startsWith(`${field}: `) ? `${flag}: ${message.slice(field.length + 2)}` : message;
}

function lists(reason: string): string {
  if (reason === "VM_NOT_FOUND") return "; `pitwall ls` shows yours";
  if (reason === "PROJECT_NOT_FOUND") return "; `pitwall project ls` shows yours";
  if (reason === "NODE_NOT_FOUND") return "; `pitwall nodes` shows them";
  return "";
}

/** The messages of an error and its causes, outermost first. */
export function messageChain(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && parts.length < 5; at = at instanceof Error ? at.cause : undefined) {
    const text = at instanceof Error ? at.message || at.name : typeof at === "string" ? at : "unknown error";
    if (!parts.some((part) => part.includes(text))) parts.push(text);
  }
  return parts.join(": ");
}
