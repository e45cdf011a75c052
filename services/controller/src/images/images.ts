// The images that nodes hold: each node knows its own, so all of this asks them.
import { formatReference, parseReference, type ImageSources } from "@pitwall/oci";
import { PullState, type HeldImage, type NodeFreed, type PullImageResponse } from "@pitwall/proto/pitwall/v1/image.ts";
import type { ImageAnswer, ImageCommand, ImageInventory } from "@pitwall/proto/pitwall/v1/link.ts";
import { Outbox, PitwallError } from "@pitwall/runtime";
import type { OnBehalf } from "../credentials/credentials.ts";
import type { NodeName, Nodes } from "../nodes/nodes.ts";
import type { NodeLink, NodeLinks } from "../nodes/links.ts";
import { mergeInventories } from "./inventory.ts";
import type { PlacedImage } from "./placed.ts";

const answerLimitMs = 30_000;
/** Of nodes that answer image commands. */
const capability = 2;

interface Target {
  readonly name: string;
  readonly link: NodeLink;
}

export interface Held {
  /** By digest. */
  readonly images: readonly HeldImage[];
  readonly skippedNodes: readonly string[];
}

export interface FreedOnNodes {
  readonly nodes: readonly NodeFreed[];
  readonly skippedNodes: readonly string[];
}

export interface ImagesParts {
  readonly sources: Pick<ImageSources, "resolve">;
  readonly nodes: Pick<Nodes, "names" | "get">;
  readonly links: Pick<NodeLinks, "all">;
  /** The images of all VMs. */
  readonly placed: () => Promise<readonly PlacedImage[]>;
}

export class Images {
  readonly #parts: ImagesParts;

  constructor(parts: ImagesParts) {
    this.#parts = parts;
  }

  async list(signal: AbortSignal): Promise<Held> {
    const asking = this.#askAll(() => ({ $case: "inventory", value: {} }), signal);
    const [{ answers, skippedNodes }, placed] = await Promise.all([asking, this.#parts.placed()]);
    const inventories = new Map<string, ImageInventory>();
    for (const { name, answer } of answers) inventories.set(name, answer.inventory ?? { images: [] });
    const vmCounts = new Map<string, number>();
    for (const { digest, vmCount } of placed) vmCounts.set(digest, (vmCounts.get(digest) ?? 0) + vmCount);
    return { images: mergeInventories(inventories, vmCounts), skippedNodes };
  }

  /** Says what becomes of it on each node. Throws what resolving the image throws, `unavailable` and `state` as the API says. */
  async *pull(
    image: string,
    node: string,
    { credentialsFor, credentialOf }: Omit<OnBehalf, "projectId">,
    signal: AbortSignal,
  ): AsyncGenerator<PullImageResponse> {
    const reference = formatReference(parseReference(image, "image"));
    const targets = await this.#pullTargets(node);
    const { digest } = await this.#parts.sources.resolve(reference, signal, { credentialsFor });
    const credential = credentialOf(reference);
    const said = new Outbox<PullImageResponse>(10_000);
    const work = targets.map(async ({ name, link }) => {
      const say = (state: PullState, reason = "", message = ""): boolean => said.push({ node: name, state, digest, reason, message });
      say(PullState.PULL_STATE_PULLING);
      try {
        const { reason, message } = await link.ask({ $case: "pull", value: { image: reference, digest, credential } }, signal);
        say(reason === "" ? PullState.PULL_STATE_DONE : PullState.PULL_STATE_FAILED, reason, message);
      } catch (error) {
        const { reason, message } = error instanceof PitwallError ? error : { reason: "CANCELLED", message: "the call ended first" };
        say(PullState.PULL_STATE_FAILED, reason, message);
      }
    });
    void Promise.all(work).then(() => said.close());
    yield* said;
  }

  /** `image` is a digest or a reference that nodes know. Throws `state` while a VM uses it, `not-found`. */
  async delete(image: string, signal: AbortSignal): Promise<FreedOnNodes> {
    const { images, skippedNodes } = await this.list(signal);
    const reference = image.startsWith("sha256:") ? "" : formatReference(parseReference(image, "image"));
    const meant = images.filter(({ digest, references }) => digest === image || references.includes(reference));
    if (meant.length === 0) {
      const where = skippedNodes.length > 0 ? ` (not asked: ${skippedNodes.join(", ")})` : "";
      throw new PitwallError("not-found", `no node holds the image ${JSON.stringify(image.slice(0, 200))}${where}`, {
        reason: "IMAGE_NOT_HELD",
        field: "image",
      });
    }
    if (meant.some(({ vmCount }) => vmCount > 0)) throw inUse(image);
    const freed = await this.#free(
      meant.map(({ digest }) => digest),
      false,
      signal,
    );
    if (freed.inUse) throw inUse(image);
    return freed;
  }

  async collectGarbage(dryRun: boolean, signal: AbortSignal): Promise<FreedOnNodes> {
    return this.#free([], dryRun, signal);
  }

  async #free(digests: string[], dryRun: boolean, signal: AbortSignal): Promise<FreedOnNodes & { readonly inUse: boolean }> {
    const placed = await this.#parts.placed();
    const command = (nodeId: string): NonNullable<ImageCommand["command"]> => {
      const keepDigests = placed.filter((image) => image.nodeId === nodeId).map(({ digest }) => digest);
      return { $case: "free", value: { digests, keepDigests, dryRun } };
    };
    const { answers, skippedNodes } = await this.#askAll(command, signal);
    const nodes = answers.map(({ name, answer: { freed } }) => ({
      node: name,
      digests: freed?.digests ?? [],
      baseBytes: freed?.baseBytes ?? 0n,
      layerBytes: freed?.layerBytes ?? 0n,
    }));
    return { nodes, skippedNodes, inUse: answers.some(({ answer: { freed } }) => (freed?.digestsInUse.length ?? 0) > 0) };
  }

  /** A node that does not answer, or refuses, is skipped. */
  async #askAll(
    command: (nodeId: string) => NonNullable<ImageCommand["command"]>,
    signal: AbortSignal,
  ): Promise<{ readonly answers: readonly { readonly name: string; readonly answer: ImageAnswer }[]; readonly skippedNodes: string[] }> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)]);
    const [links, nodes] = await Promise.all([this.#parts.links.all(), this.#parts.nodes.names()]);
    const asked = await Promise.all(
      nodes.map(async (node) => {
        const answer = await able(links, node)
          ?.ask(command(node.id), limited)
          .catch(() => undefined);
        return { name: node.name, answer: answer?.reason === "" ? answer : undefined };
      }),
    );
    signal.throwIfAborted();
    return {
      answers: asked.flatMap(({ name, answer }) => (answer ? [{ name, answer }] : [])),
      skippedNodes: asked.filter(({ answer }) => !answer).map(({ name }) => name),
    };
  }

  async #pullTargets(nameOrId: string): Promise<readonly Target[]> {
    const nodes: readonly NodeName[] = nameOrId === "" ? await this.#parts.nodes.names() : [await this.#parts.nodes.get(nameOrId)];
    const links = await this.#parts.links.all();
    const targets = nodes.flatMap((node) => {
      const link = able(links, node);
      return link ? [{ name: node.name, link }] : [];
    });
    if (targets.length > 0) return targets;
    const reached = nodes.find(({ id }) => links.has(id));
    if (reached) {
      throw new PitwallError("state", `the agent of node ${reached.name} is too old to be told to pull`, { reason: "NODE_TOO_OLD" });
    }
    const which = nameOrId === "" ? "no node is linked" : `the node ${nodes[0]?.name} is not linked`;
    throw new PitwallError("unavailable", which, { reason: "NODE_UNREACHABLE" });
  }
}

function able(links: ReadonlyMap<string, NodeLink>, { id }: NodeName): NodeLink | undefined {
  const link = links.get(id);
  return link && link.capability >= capability ? link : undefined;
}

function inUse(image: string): PitwallError {
  return new PitwallError("state", `a VM uses the image ${image.slice(0, 200)}: remove the VM first`, { reason: "IMAGE_IN_USE" });
}
