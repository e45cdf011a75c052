// pitwall images ls, pull, rm, gc, push: the images that nodes hold, and how one gets to a registry.
import { resolve } from "node:path";
import type { Command } from "commander";
import { HeldImage, PullImageResponse, PullState, type Pitwall } from "@pitwall/sdk";
import { inSession, withEndpoint, type EndpointOption } from "../account/session.ts";
import { CliError } from "../failure.ts";
import { imageMeant } from "../image/meant.ts";
import { freedTable, imageTable, pullTable, shortDigest } from "../image/views.ts";
import { absoluteImage } from "../input/image-reference.ts";
import { projectOption, type ProjectOption } from "../input/project.ts";
import { byteWord } from "../output/words.ts";
import { show, withOutput, type Format } from "../output/format.ts";
import { openProgress } from "../output/progress.ts";
import { plain } from "../output/terminal-text.ts";
import type { Shell } from "../shell.ts";

interface Options extends EndpointOption {
  readonly output: Format;
}

interface PullOptions extends Options, ProjectOption {
  readonly node?: string;
}

export function declareStore(command: Command, shell: Shell): void {
  declarePush(command, shell);
  withOutput(withEndpoint(command.command("ls").description("Lists the images that nodes hold."))).action(async (options: Options) =>
    inSession(shell, options, async ({ pitwall }) => {
      const { images, skippedNodes } = await pitwall.listImages();
      await show(shell, options.output, {
        table: () => imageTable(images),
        json: images.map((image) => HeldImage.toJSON(image)),
        names: images.map(({ digest }) => digest),
      });
      saySkipped(shell, skippedNodes);
    }),
  );
  withOutput(
    withEndpoint(
      command
        .command("pull")
        .argument("<ref>", "an image reference, as `pitwall run` takes it")
        .addOption(projectOption())
        .option("--node <node>", "name or id of one node; default: all that are ready"),
    ),
  )
    .description("Has nodes make an image ready, so that VMs of it start at once.")
    .action(async (reference: string, options: PullOptions) =>
      inSession(shell, options, ({ pitwall }) => pull(shell, pitwall, reference, options)),
    );
  withOutput(withEndpoint(command.command("rm").argument("<image...>", "digests, beginnings of them, or references")))
    .description("Frees images on all nodes. One that a VM uses is refused. For administrators.")
    .action(async (wanted: readonly string[], options: Options) =>
      inSession(shell, options, async ({ pitwall }) => {
        const { images } = await pitwall.listImages();
        const meant = [...new Set(wanted.map((text) => imageMeant(text, images, shell.folder)))];
        const freed = [];
        for (const image of meant) freed.push(await pitwall.deleteImage(image));
        const nodes = freed.flatMap((one) => one.nodes).filter(({ digests }) => digests.length > 0);
        await show(shell, options.output, freedTable(nodes));
        saySkipped(shell, [...new Set(freed.flatMap(({ skippedNodes }) => skippedNodes))]);
      }),
    );
  withOutput(withEndpoint(command.command("gc").option("--dry-run", "only say what would be freed")))
    .description("Frees the images and layers that no VM uses, on all nodes. For administrators.")
    .action(async (options: Options & { readonly dryRun?: boolean }) =>
      inSession(shell, options, async ({ pitwall }) => {
        const { nodes, skippedNodes } = await pitwall.collectGarbage({ dryRun: options.dryRun === true });
        await show(shell, options.output, freedTable(nodes));
        saySkipped(shell, skippedNodes);
      }),
    );
}

interface PushOptions {
  readonly tag?: string;
  readonly insecure?: boolean;
  readonly caFile?: string;
  readonly output: Format;
}

function declarePush(command: Command, shell: Shell): void {
  withOutput(
    command
      .command("push")
      .argument("<path>", "the folder of an OCI layout, or a tar of one or of `docker save`")
      .argument("<name>", "host/name:tag in a registry")
      .option("--tag <tag>", "which image of several in the file")
      .option("--insecure", "the registry speaks plain HTTP")
      .option("--ca-file <file>", "certificate authorities (PEM) besides the public ones"),
  )
    .description("Sends an image from this machine to a registry, with what `docker login` keeps.")
    .action(async (path: string, name: string, { tag, insecure, caFile, output }: PushOptions) => {
      const { push } = await import("../image/push.ts"); // the library is only loaded when it is needed
      const request = { path: resolve(shell.folder, path), tag, name, insecure: insecure === true, caFile };
      const { digest, sentBytes } = await withProgress(shell, (step) => {
        const onBlob = (of: string, sizeBytes: number): void => step(`sending ${shortDigest(of)} (${byteWord(BigInt(sizeBytes))})`);
        return push(request, shell.env, onBlob, shell.signals.signal);
      });
      await show(shell, output, {
        table: () => `${plain(name)} is ${digest}; ${byteWord(BigInt(sentBytes))} were sent\n`,
        json: { name, digest, sentBytes },
        names: [digest],
      });
    });
}

async function pull(shell: Shell, pitwall: Pitwall, reference: string, { node, project = "", output }: PullOptions): Promise<void> {
  const last = new Map<string, PullImageResponse>();
  await withProgress(shell, async (step) => {
    const image = absoluteImage(reference, shell.folder);
    for await (const said of pitwall.pullImage(image, { project, ...(node !== undefined && { node }), signal: shell.signals.signal })) {
      last.set(said.node, said);
      const busy = [...last.values()].filter(({ state }) => state === PullState.PULL_STATE_PULLING).map((one) => one.node);
      if (busy.length > 0) step(`pulling on ${busy.join(", ")}`);
    }
  });
  const results = [...last.values()].toSorted((a, b) => (a.node < b.node ? -1 : 1));
  await show(shell, output, {
    table: () => pullTable(results),
    json: results.map((result) => PullImageResponse.toJSON(result)),
    names: [...new Set(results.map(({ digest }) => digest))],
  });
  const failed = results.filter(({ state }) => state !== PullState.PULL_STATE_DONE);
  if (failed.length > 0) throw new CliError(`the image is not ready on ${failed.map((one) => plain(one.node)).join(", ")}`);
}

async function withProgress<T>(shell: Shell, work: (step: (text: string) => void) => Promise<T>): Promise<T> {
  using progress = openProgress({ write: (text) => shell.err(text), isTerminal: shell.errIsTerminal, nowMs: () => shell.monotonicMs() });
  return await work((text) => progress.step(text));
}

function saySkipped(shell: Shell, nodes: readonly string[]): void {
  if (nodes.length > 0) shell.note(`left out (away, too old, or sharing their cache): ${nodes.map((node) => plain(node)).join(", ")}`);
}
