// pitwall token: API tokens, for programs.
import { Option, type Command } from "commander";
import { ApiToken, CreateApiTokenResponse } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { parseLifeMs } from "../input/life.ts";
import { addItem } from "../input/pairs.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { roleOf, roleWord, roleWords, type RoleWord } from "../input/role.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { table } from "../output/table.ts";
import { ageWord } from "../output/words.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & ProjectOption & { readonly output: Format };

interface CreateOptions extends Options {
  readonly description?: string;
  readonly role: RoleWord;
  readonly method?: readonly string[];
  readonly ttl?: number;
}

export function declare(command: Command, shell: Shell): void {
  declareCreate(command, shell);
  withOutput(withEndpoint(command.command("ls").addOption(projectOption())))
    .description("Lists the API tokens of a project; never what they are.")
    .action(async ({ project = "", ...options }: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const tokens = await pitwall.projects.tokens(project);
        await show(shell, options.output, {
          table: () => tokenTable(tokens, shell),
          json: tokens.map((token) => ApiToken.toJSON(token)),
          names: tokens.map(({ id }) => id),
        });
      }),
    );
  withEndpoint(command.command("revoke").argument("<id...>", "as `pitwall token ls` shows them").addOption(projectOption()))
    .description("Ends API tokens, and the calls that they have open.")
    .action(async (ids: readonly string[], { project = "", ...options }: EndpointOption & ProjectOption) =>
      inSession(shell, options, async ({ pitwall }) => {
        for (const id of ids) await pitwall.projects.revokeToken(project, id);
      }),
    );
}

function declareCreate(command: Command, shell: Shell): void {
  const create = command
    .command("create")
    .addOption(projectOption())
    .option("-d, --description <text>", "what it is for")
    .addOption(new Option("--role <role>", "what it may do, at most what you may").choices(roleWords).default("viewer"))
    .addOption(
      new Option("--method <service/method>", "the only ones that it may call, such as VmService/StopVm; may be repeated").argParser(
        addItem,
      ),
    )
    .addOption(new Option("--ttl <time>", "how long it lives, at most 365d (default: 30d)").argParser(parseLifeMs));
  withOutput(withEndpoint(create))
    .description("Makes an API token and prints it, once. Programs give it as PITWALL_TOKEN, or as a bearer token.")
    .action(async ({ project = "", description = "", role, method = [], ttl, ...options }: CreateOptions) =>
      inSession(shell, options, async ({ pitwall }) => {
        const wanted = { project, description, role: roleOf(role), methods: method, ...(ttl !== undefined && { ttlMs: ttl }) };
        const made = await pitwall.projects.createToken(wanted);
        await show(shell, options.output, {
          table: () => `${plain(made.secret)}\n`,
          json: CreateApiTokenResponse.toJSON(made),
          names: [made.secret],
        });
        shell.note(`${made.token?.id ?? ""}: good until ${made.token?.expireTime?.toISOString() ?? ""}; it is not shown again`);
      }),
    );
}

function tokenTable(tokens: readonly ApiToken[], shell: Shell): string {
  const nowMs = shell.wallMs();
  const left = (end: Date | undefined): string =>
    !end || end.getTime() <= nowMs ? "expired" : ageWord(new Date(nowMs - (end.getTime() - nowMs)), nowMs);
  return table(
    ["ID", "ROLE", "MADE BY", "ENDS IN", "USED", "METHODS", "DESCRIPTION"],
    tokens.map(({ id, role, createdBy, expireTime, lastUsedTime, methods, description }) => [
      id,
      roleWord(role),
      createdBy,
      left(expireTime),
      lastUsedTime ? `${ageWord(lastUsedTime, nowMs)} ago` : "never",
      methods.join(",") || "all",
      description,
    ]),
  );
}
