// pitwall images: what references stand for.
import type { Command } from "commander";
import { ResolveImageResponse } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { absoluteImage } from "../input/image-reference.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { fieldList, type Cell } from "../output/table.ts";
import { byteWord } from "../output/words.ts";
import type { Shell } from "../shell.ts";

export function declare(command: Command, shell: Shell): void {
  const resolve = command.command("resolve").argument("<ref>", "an image reference, as `pitwall run` takes it");
  withOutput(withEndpoint(resolve))
    .description("Shows what an image reference stands for now, without making a VM.")
    .action(async (reference: string, options: EndpointOption & { readonly output: Format }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const image = await pitwall.resolveImage(absoluteImage(reference, shell.folder));
        await show(shell, options.output, {
          table: () => fieldList(details(image)),
          json: ResolveImageResponse.toJSON(image),
          names: [image.digest],
        });
      }),
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
