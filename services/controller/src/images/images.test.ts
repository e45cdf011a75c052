import type { ImageCommand, ImageOnNode } from "@pitwall/proto/pitwall/v1/link.ts";
import { Node } from "@pitwall/proto/pitwall/v1/node.ts";
import { PullState } from "@pitwall/proto/pitwall/v1/image.ts";
import { PitwallError } from "@pitwall/runtime";
import { expect, test } from "vitest";
import { localLink } from "../nodes/links.ts";
import { Sessions } from "../nodes/sessions.ts";
import { Images } from "./images.ts";
import type { PlacedImage } from "./placed.ts";

const never = new AbortController().signal;
const nobody = { credentialsFor: async () => undefined, credentialOf: () => undefined };
const digest = `sha256:${"a".repeat(64)}`;
const reference = "docker.io/library/web:1";
const held: ImageOnNode = { digest, references: [reference], baseBytes: 5n, layerBytes: 7n };
const nodes = ["new", "old", "away"].map((name) => Node.fromPartial({ id: name, name }));

/** A fleet of one node that answers, one whose agent is too old, and one without a link; and what the first was asked. */
function fleet(placed: readonly PlacedImage[], inUse: readonly string[] = []): { images: Images; asked: ImageCommand["command"][] } {
  const sessions = new Sessions();
  const asked: ImageCommand["command"][] = [];
  sessions.begin("old", 1n, 1);
  const { outbox, questions } = sessions.begin("new", 1n, 2);
  void (async () => {
    for await (const { message } of outbox) {
      if (message?.$case !== "imageCommand") continue;
      const { requestId, command } = message.value;
      asked.push(command);
      const freed = { digests: [digest], baseBytes: 5n, layerBytes: 7n, digestsInUse: [...inUse] };
      const refusal = command?.$case === "pull" ? { reason: "DISK_FULL", message: "the disk is full" } : { reason: "", message: "" };
      questions.answer({ requestId, ...refusal, inventory: { images: [held] }, freed });
    }
  })();
  const images = new Images({
    sources: { resolve: () => Promise.resolve({ digest, reference, sizeBytes: 0, config: undefined as never, layers: [] }) }, // only the digest is looked at
    nodes: {
      names: () => Promise.resolve(nodes),
      get: (name) => Promise.resolve(nodes.find((node) => node.name === name) ?? Promise.reject(new PitwallError("not-found", name))),
    },
    links: { all: () => Promise.resolve(new Map([...sessions.all()].map((session) => [session.nodeId, localLink(session)]))) },
    placed: () => Promise.resolve(placed),
  });
  return { images, asked };
}

const vm = { nodeId: "new", digest, vmCount: 2 };

test("nodes that are away or too old are named, and the others listed", async () => {
  const { images } = fleet([vm, { ...vm, nodeId: "away", vmCount: 1 }]);
  expect(await images.list(never)).toEqual({
    images: [{ ...held, nodes: ["new"], vmCount: 3 }],
    skippedNodes: ["old", "away"],
  });
});

test("an image that a VM uses is not deleted, whoever notices it", async () => {
  const refusal = "a VM uses the image web:1: remove the VM first";
  const known = fleet([vm]);
  await expect(known.images.delete("web:1", never)).rejects.toThrow(refusal);
  expect(known.asked.map((command) => command?.$case)).toEqual(["inventory"]);
  await expect(fleet([], [digest]).images.delete("web:1", never)).rejects.toThrow(refusal);
});

test("an image goes by its digest or its reference, and one that is not there is not found", async () => {
  for (const image of [digest, "web:1", reference]) {
    const { images, asked } = fleet([]);
    expect((await images.delete(image, never)).nodes).toEqual([{ node: "new", digests: [digest], baseBytes: 5n, layerBytes: 7n }]);
    expect(asked.at(-1)).toMatchObject({ $case: "free", value: { digests: [digest], dryRun: false } });
  }
  await expect(fleet([]).images.delete("other", never)).rejects.toThrow('no node holds the image "other" (not asked: old, away)');
});

test("garbage collection names what VMs are placed for", async () => {
  const { images, asked } = fleet([vm, { ...vm, nodeId: "away", digest: "sha256:elsewhere" }]);
  await images.collectGarbage(true, never);
  expect(asked).toEqual([{ $case: "free", value: { digests: [], keepDigests: [digest], dryRun: true } }]);
});

test("a pull tells how it goes on each node, and which it cannot ask", async () => {
  const { images } = fleet([]);
  const said = [];
  for await (const { node, state, reason } of images.pull("web:1", "", nobody, never)) said.push({ node, state, reason });
  expect(said).toEqual([
    { node: "new", state: PullState.PULL_STATE_PULLING, reason: "" },
    { node: "new", state: PullState.PULL_STATE_FAILED, reason: "DISK_FULL" },
  ]);
  await expect(images.pull("web:1", "old", nobody, never).next()).rejects.toThrow("the agent of node old is too old to be told to pull");
  await expect(images.pull("web:1", "away", nobody, never).next()).rejects.toThrow("the node away is not linked");
});

test("a node is given the credential of whoever asks, for the image's registry", async () => {
  const { images, asked } = fleet([]);
  const credential = { registry: "docker.io", username: "ada", secret: { $case: "password" as const, value: "hunter2" } };
  const credentialOf = (image: string): typeof credential | undefined => (image === reference ? credential : undefined);
  for await (const _ of images.pull("web:1", "new", { ...nobody, credentialOf }, never));
  expect(asked).toEqual([{ $case: "pull", value: { image: reference, digest, credential } }]);
});
