// pitwall project: projects and who is in them.
import { Option, type Command } from "commander";
import { Project, ProjectMember } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { usageError } from "../failure.ts";
import { parseByteSize, parseCount, parseCpuMillis } from "../input/quantities.ts";
import { roleOf, roleWord, roleWords, type RoleWord } from "../input/role.ts";
import { parseLifeMs } from "../input/life.ts";
import { show, withOutput, type Format, type View } from "../output/format.ts";
import { fieldList, table } from "../output/table.ts";
import { ageWord, byteWord, cpuWord, durationWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";

type Options = EndpointOption & { readonly output: Format };

interface UpdateOptions extends Options {
  readonly name?: string;
  readonly undeleteWindow?: number;
  readonly recordSessions?: "on" | "off";
  readonly memberLogins?: readonly string[];
  readonly ownerLogins?: readonly string[];
  readonly vms?: number;
  readonly cpu?: number;
  readonly memory?: bigint;
  readonly disk?: bigint;
  readonly addresses?: number;
  readonly etag?: string;
}

export function declare(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.command("ls").option("--all", "every project; for administrators")))
    .description("Lists the projects that you have a role in.")
    .action(async ({ all = false, ...options }: Options & { readonly all?: boolean }) =>
      inSession(shell, options, async ({ pitwall }) => show(shell, options.output, listView(await pitwall.projects.list({ all }), shell))),
    );
  withOutput(withEndpoint(command.command("create").argument("<name>", "unique in the installation")))
    .description("Makes a project. You are its owner.")
    .action(async (name: string, options: Options) =>
      inSession(shell, options, async ({ pitwall }) => show(shell, options.output, oneView(await pitwall.projects.create(name)))),
    );
  withOutput(withEndpoint(command.command("show").argument("[project]", "name or id; default: your personal project", "")))
    .description("Shows a project, its quota, and what is taken of it.")
    .action(async (project: string, options: Options) =>
      inSession(shell, options, async ({ pitwall }) => show(shell, options.output, oneView(await pitwall.projects.get(project)))),
    );
  declareUpdate(command, shell);
  withEndpoint(command.command("rm").argument("<project>", "name or id"))
    .description("Removes a project that has no VMs.")
    .action(async (project: string, options: EndpointOption) =>
      inSession(shell, options, ({ pitwall }) => pitwall.projects.delete(project)),
    );
  declareMembers(command, shell);
}

function declareUpdate(command: Command, shell: Shell): void {
  const update = command
    .command("update")
    .argument("<project>", "name or id")
    .option("--name <name>", "a new name")
    .addOption(
      new Option("--undelete-window <time>", "how long a removed VM can be brought back, such as 7d; 0 for not at all").argParser(
        parseLifeMs,
      ),
    )
    .addOption(
      new Option("--record-sessions <word>", "whether SSH sessions are recorded, and ways that cannot be are refused").choices([
        "on",
        "off",
      ]),
    )
    .addOption(new Option("--member-logins <users>", "as whom members may act in VMs, such as dev,ops; * for anybody").argParser(namesOf))
    .addOption(new Option("--owner-logins <users>", "the same for owners").argParser(namesOf))
    .addOption(new Option("--vms <count>", "quota; for administrators").argParser(parseCount))
    .addOption(new Option("--cpu <cpus>", "quota; for administrators").argParser(parseCpuMillis))
    .addOption(new Option("--memory <size>", "quota; for administrators").argParser(parseByteSize))
    .addOption(new Option("--disk <size>", "quota; for administrators").argParser(parseByteSize))
    .addOption(new Option("--addresses <count>", "quota; for administrators").argParser(parseCount))
    .option("--etag <etag>", "refuse when the project has changed since");
  withOutput(withEndpoint(update))
    .description("Changes a project's name, settings or quota.")
    .action(
      async (
        project: string,
        {
          name,
          undeleteWindow,
          recordSessions,
          memberLogins,
          ownerLogins,
          vms,
          cpu,
          memory,
          disk,
          addresses,
          etag,
          ...options
        }: UpdateOptions,
      ) => {
        const quota = {
          ...(vms !== undefined && { vms }),
          ...(cpu !== undefined && { cpuMillis: BigInt(cpu) }),
          ...(memory !== undefined && { memBytes: memory }),
          ...(disk !== undefined && { diskBytes: disk }),
          ...(addresses !== undefined && { addresses }),
        };
        const sshLogins = { ...(memberLogins && { member: memberLogins }), ...(ownerLogins && { owner: ownerLogins }) };
        const changes = {
          ...(name !== undefined && { name }),
          ...(undeleteWindow !== undefined && { undeleteWindowMs: undeleteWindow }),
          ...(recordSessions !== undefined && { recordSessions: recordSessions === "on" }),
          ...(Object.keys(sshLogins).length > 0 && { sshLogins }),
          ...(Object.keys(quota).length > 0 && { quota }),
        };
        if (Object.keys(changes).length === 0)
          throw usageError(
            "nothing to change: give --name, --undelete-window, --record-sessions, --member-logins, --owner-logins, or a quota",
          );
        await inSession(shell, options, async ({ pitwall }) =>
          show(shell, options.output, oneView(await pitwall.projects.update(project, { ...changes, ...(etag !== undefined && { etag }) }))),
        );
      },
    );
}

function declareMembers(command: Command, shell: Shell): void {
  withOutput(withEndpoint(command.command("members").argument("[project]", "name or id; default: your personal project", "")))
    .description("Lists who is in a project.")
    .action(async (project: string, options: Options) =>
      inSession(shell, options, async ({ pitwall }) =>
        show(shell, options.output, memberView(await pitwall.projects.members(project), shell)),
      ),
    );
  const add = command
    .command("add-member")
    .argument("<project>", "name or id")
    .argument("<subject>", "the user's subject at the issuer, as `pitwall whoami` shows it")
    .addOption(new Option("--role <role>", "what they may do").choices(roleWords).default("member"));
  withOutput(withEndpoint(add))
    .description("Adds a member to a project, or changes their role.")
    .action(async (project: string, subject: string, { role, ...options }: Options & { readonly role: RoleWord }) =>
      inSession(shell, options, async ({ pitwall }) =>
        show(shell, options.output, memberView([await pitwall.projects.setMember(project, subject, roleOf(role))], shell)),
      ),
    );
  withEndpoint(
    command.command("remove-member").argument("<project>", "name or id").argument("<subject>", "as `pitwall project members` shows it"),
  )
    .description("Takes a member out of a project. Their API tokens for it end.")
    .action(async (project: string, subject: string, options: EndpointOption) =>
      inSession(shell, options, ({ pitwall }) => pitwall.projects.removeMember(project, subject)),
    );
}

function listView(projects: readonly Project[], shell: Shell): View {
  return {
    table: () =>
      table(
        ["NAME", "ROLE", "VMS", "AGE", "ID"],
        projects.map(({ name, role, usage, quota, createTime, id }) => [
          name,
          roleWord(role),
          `${usage?.vms ?? 0}/${quota?.vms ?? 0}`,
          ageWord(createTime, shell.wallMs()),
          id,
        ]),
      ),
    json: projects.map((project) => Project.toJSON(project)),
    names: projects.map(({ name }) => name),
  };
}

function oneView(project: Project): View {
  const { name, id, role, personalOf, quota, usage, undeleteWindow, sshLogins, etag } = project;
  const of = (used: string, limit: string): string => `${used} of ${limit}`;
  return {
    table: () =>
      fieldList([
        ["Name", name],
        ["ID", id],
        ["Role", roleWord(role)],
        ["Personal project of", personalOf],
        ["VMs", of(String(usage?.vms ?? 0), String(quota?.vms ?? 0))],
        ["CPUs", of(cpuWord(usage?.cpuMillis ?? 0n), cpuWord(quota?.cpuMillis ?? 0n))],
        ["Memory", of(byteWord(usage?.memBytes ?? 0n), byteWord(quota?.memBytes ?? 0n))],
        ["Disk", of(byteWord(usage?.diskBytes ?? 0n), byteWord(quota?.diskBytes ?? 0n))],
        ["Addresses", of(String(usage?.addresses ?? 0), String(quota?.addresses ?? 0))],
        ["Undelete window", undeleteWindow && undeleteWindow.seconds > 0n ? durationWord(Number(undeleteWindow.seconds) * 1000) : "none"],
        ["SSH sessions", project.recordSessions ? "are recorded" : ""],
        ["Members log in as", loginWords(sshLogins?.member)],
        ["Owners log in as", loginWords(sshLogins?.owner)],
        ["Etag", etag],
      ]),
    json: Project.toJSON(project),
    names: [name],
  };
}

/** Empty, which is not shown, for everybody. */
function loginWords(logins: readonly string[] = []): string {
  return logins.includes("*") ? "" : logins.join(", ");
}

function namesOf(text: string): readonly string[] {
  return text.split(",").map((name) => name.trim());
}

function memberView(members: readonly ProjectMember[], shell: Shell): View {
  return {
    table: () =>
      table(
        ["SUBJECT", "ROLE", "AGE"],
        members.map(({ subject, role, createTime }) => [subject, roleWord(role), ageWord(createTime, shell.wallMs())]),
      ),
    json: members.map((member) => ProjectMember.toJSON(member)),
    names: members.map(({ subject }) => subject),
  };
}
