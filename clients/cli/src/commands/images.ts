// pitwall images: what references stand for. What nodes hold is image-store.ts.
import type { Command } from "commander";
import { CheckImageResponse, Parity, ResolveImageResponse } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { absoluteImage } from "../input/image-reference.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { exitCodes } from "../failure.ts";
import { openColours, type Colours } from "../output/colours.ts";
import { fieldList, table, type Cell } from "../output/table.ts";
import { byteWord, parityWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";
import { declareStore } from "./image-store.ts";

/** Of a value in a table. The other forms have all of it. */
const shownLength = 40;

export function declare(command: Command, shell: Shell): void {
  declareResolve(command, shell);
  declareCheck(command, shell);
  declareStore(command, shell);
}

function declareResolve(command: Command, shell: Shell): void {
  const resolve = command.command("resolve").argument("<ref>", "an image reference, as `pitwall run` takes it");
  withOutput(withEndpoint(resolve.addOption(projectOption())))
    .description("Shows what an image reference stands for now, without making a VM.")
    .action(async (reference: string, { project = "", ...options }: EndpointOption & ProjectOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const image = await pitwall.resolveImage(absoluteImage(reference, shell.folder), { project });
        await show(shell, options.output, {
          table: () => fieldList(details(image)),
          json: ResolveImageResponse.toJSON(image),
          names: [image.digest],
        });
      }),
    );
}

interface CheckOptions extends EndpointOption, ProjectOption {
  readonly strict?: boolean;
  readonly output: Format;
}

function declareCheck(command: Command, shell: Shell): void {
  const check = command.command("check").argument("<ref>", "an image reference, as `pitwall run` takes it");
  withOutput(withEndpoint(check.addOption(projectOption()).option("--strict", "end with exit code 1 when anything would be ignored")))
    .description("Says for each field of an image's configuration whether a VM honours, adapts or ignores it, and why.")
    .action(async (reference: string, { project = "", ...options }: CheckOptions) =>
      inSession(shell, options, async ({ pitwall }) => {
        const checked = await pitwall.checkImage(absoluteImage(reference, shell.folder), { project });
        const ignored = checked.fields.filter(({ parity }) => parity === Parity.PARITY_IGNORED).map(({ field }) => field);
        await show(shell, options.output, {
          table: () => verdictTable(checked, openColours(shell.hasColour)),
          json: CheckImageResponse.toJSON(checked),
          names: ignored,
        });
        if (options.strict === true && ignored.length > 0) shell.endWith(exitCodes.failure);
      }),
    );
}

function verdictTable({ fields }: CheckImageResponse, colours: Colours): string {
  const paints: Partial<Record<Parity, (text: string) => string>> = {
    [Parity.PARITY_HONOURED]: colours.green,
    [Parity.PARITY_ADAPTED]: colours.yellow,
    [Parity.PARITY_IGNORED]: colours.red,
  };
  const short = (text: string): string => ([...text].length > shownLength ? `${[...text].slice(0, shownLength - 1).join("")}…` : text);
  return table(
    ["FIELD", "VERDICT", "VALUE", "WHY"],
    fields.map(({ field, parity, value, why }) => [
      field,
      { text: parityWord(parity), paint: paints[parity] ?? ((text) => text) },
      short(value) || "-",
      why,
    ]),
  );
}

function details({ image, digest, sizeBytes, config }: ResolveImageResponse): [string, Cell][] {
  const words = (list: readonly string[] = []): string => (list.length === 0 ? "" : JSON.stringify(list));
  return [
    ["Image", image],
    ["Digest", digest],
    ["Size", byteWord(sizeBytes)],
    ["Platform", config ? `${config.os}/${config.architecture}` : ""],
    ["Entrypoint", words(config?.entrypoint)],
    ["Command", words(config?.cmd)],
    ["User", config?.user ?? ""],
    ["Folder", config?.workingDir ?? ""],
    ["Stop signal", config?.stopSignal ?? ""],
    ["Ports", config?.exposedPorts.join(", ") ?? ""],
    ...(config?.env ?? []).map((pair): [string, Cell] => ["Environment", pair]),
    ...Object.entries(config?.labels ?? {}).map(([name, value]): [string, Cell] => ["Label", `${name}=${value}`]),
  ];
}
