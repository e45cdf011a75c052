// pitwall audit: who changed what, and proof that nobody has changed that since.
import { open, rename, rm } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "commander";
import { AuditEntry, AuditHead } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { CliError } from "../failure.ts";
import { parseCount } from "../input/quantities.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { fieldList, table } from "../output/table.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

interface ListOptions extends EndpointOption, ProjectOption {
  readonly filter?: string;
  readonly limit: number;
  readonly all?: boolean;
  readonly output: Format;
}

export function declare(command: Command, shell: Shell): void {
  const list = command
    .command("ls")
    .addOption(projectOption())
    .option("--all", "of all projects and of the fleet; for administrators")
    .option("--filter <filter>", `such as 'actor = "ada" AND time > "2026-01-01T00:00:00Z"'; fields: actor, action, object, time`)
    .option("-n, --limit <count>", "how many, newest first", parseCount, 50);
  withOutput(withEndpoint(list))
    .description("Lists what was changed in a project, newest first. For its owners.")
    .action(async ({ project = "", all = false, filter = "", limit, ...options }: ListOptions) =>
      inSession(shell, options, async ({ pitwall }) => {
        const entries: AuditEntry[] = [];
        for await (const entry of pitwall.audit.list({ project: all ? "-" : project, filter })) {
          entries.push(entry);
          if (entries.length >= limit) break;
        }
        await show(shell, options.output, {
          table: () => entryTable(entries),
          json: entries.map((entry) => AuditEntry.toJSON(entry)),
          names: entries.map(({ index }) => String(index)),
        });
      }),
    );
  withOutput(withEndpoint(command.command("head")))
    .description("Shows the latest signed head: keep it, and `verify --head` shows later that the log still begins as it did.")
    .action(async (options: EndpointOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const head = await pitwall.audit.head();
        await show(shell, options.output, {
          table: () => fieldList(headFields(head)),
          json: { head: AuditHead.toJSON(head) },
          names: [Buffer.from(head.rootHash).toString("hex")],
        });
      }),
    );
  withEndpoint(command.command("export").argument("<file>", "where to; a file that is there is replaced"))
    .description("Writes the whole log and its signed head to a file. For administrators.")
    .action(async (file: string, options: EndpointOption) => exportTo(resolve(shell.folder, file), shell, options));
  command
    .command("verify")
    .argument("<file>", "what `pitwall audit export` wrote")
    .option("--head <file>", "an older export, or its last line: the log must begin as that one did")
    .option("--public-key <file>", "the controller's audit.pub.pem: the head must be signed by its key")
    .description("Proves, without any server, that an export is whole, unchanged and signed; names what is not.")
    .action(async (file: string, { head, publicKey }: { readonly head?: string; readonly publicKey?: string }) => {
      const { verifyFile } = await import("../audit/export-file.ts");
      const at = (path: string | undefined): string | undefined => (path === undefined ? undefined : resolve(shell.folder, path));
      const verdict = await verifyFile(resolve(shell.folder, file), { head: at(head), publicKey: at(publicKey) });
      for (const fault of verdict.faults) shell.out(`${plain(fault)}\n`);
      if (verdict.faults.length > 0) throw new CliError(`${file} is not what was signed`);
      shell.out(`${verdict.entries} entries, whole and unchanged; root ${verdict.head?.root.toString("hex") ?? ""}\n`);
      if (head === undefined && publicKey === undefined)
        shell.note("whose signature it is was not checked: give --public-key, or --head with what you kept before");
    });
}

/** The file is there whole or not at all. */
async function exportTo(path: string, shell: Shell, options: EndpointOption): Promise<void> {
  const { formatLine } = await import("../audit/export-file.ts");
  const temporary = `${path}.${process.pid}.tmp`;
  await inSession(shell, options, async ({ pitwall }) => {
    const file = await open(temporary, "wx", 0o600).catch((cause: unknown) => {
      throw new CliError(`${temporary} cannot be written`, { cause });
    });
    try {
      let entries = 0;
      let isWhole = false;
      for await (const item of pitwall.audit.export({ signal: shell.signals.signal })) {
        await file.write(formatLine(item));
        if ("entry" in item) entries++;
        else isWhole = true;
      }
      shell.signals.signal.throwIfAborted();
      if (!isWhole) throw new CliError("the export was cut off; try again");
      await file.sync();
      await rename(temporary, path);
      shell.note(`${entries} entries and the signed head are in ${path}`);
    } finally {
      await file.close();
      await rm(temporary, { force: true });
    }
  });
}

function entryTable(entries: readonly AuditEntry[]): string {
  return table(
    ["INDEX", "TIME", "ACTOR", "ACTION", "OBJECT", "DETAIL"],
    entries.map(({ index, time, actor, subject, action, object, detail }) => [
      String(index),
      time?.toISOString() ?? "",
      actor === subject ? actor : `${actor} of ${subject}`,
      action,
      object,
      detail,
    ]),
  );
}

function headFields({ size, rootHash, time, keyId }: AuditHead): [string, string][] {
  return [
    ["Entries", String(size)],
    ["Root", Buffer.from(rootHash).toString("hex")],
    ["Signed", time?.toISOString() ?? ""],
    ["Key", Buffer.from(keyId).toString("hex")],
  ];
}
