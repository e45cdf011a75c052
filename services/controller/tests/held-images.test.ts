// Placement likes nodes that hold a VM's image, as they say it themselves.
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { joinNode, obey, type SpokenLink, type SpokenNode } from "./support/spoken-node.ts";

const names = ["one", "two", "three"] as const;
const nodes = new Map<string, SpokenNode>();
const links = new Map<string, SpokenLink>();
let pitwall: TestControllers;
let ada: Calls;
let elsewhere: Calls;
let digest: string;

beforeAll(async () => {
  pitwall = await startControllers(2);
  [ada, elsewhere] = [await pitwall.as("ada"), await pitwall.as("ada", 1)];
  const root = await pitwall.as(admin);
  for (const name of names) nodes.set(name, await joinNode(pitwall, root, name));
  for (const name of names) await linkUp(name, 10);
  ({ digest } = await ada.images.resolveImage({ image: pitwall.image }));
});
afterAll(async () => {
  for (const link of links.values()) await link[Symbol.asyncDispose]();
  await pitwall?.[Symbol.asyncDispose]();
});

async function linkUp(name: string, level: number): Promise<void> {
  const link = await nodes.get(name)?.link(pitwall.controllers[0]?.link ?? "", [], { level });
  if (!link) throw new Error(`there is no node ${name}`);
  links.set(name, link);
  void obey(link, 500);
}

const say = (name: string, digests: string[]): void => links.get(name)?.say({ $case: "heldImages", value: { digests } });

/** Where the next VMs would be placed. */
async function placedOn(by = ada): Promise<string[]> {
  const plans = Array.from({ length: 12 }, () => by.vms.createVm({ spec: { image: pitwall.image }, validateOnly: true }));
  return [...new Set((await Promise.all(plans)).map(({ plan }) => plan?.nodeName ?? ""))].toSorted();
}

/** Controllers look at nodes now and then. */
const soon = { timeout: 30_000, interval: 250 };

test("a node that says it holds the image is preferred, on every controller, until it says that it does not", async () => {
  say("two", [`sha256:${"0".repeat(64)}`, digest, digest, "no digest"]);
  for (const by of [ada, elsewhere]) await expect.poll(() => placedOn(by), soon).toEqual(["two"]);
  say("two", []);
  say("three", [digest]);
  for (const by of [ada, elsewhere]) await expect.poll(() => placedOn(by), soon).toEqual(["three"]);
  expect(await pitwall.query("select count(*)::int as n from node_images")).toEqual([{ n: 2 }]);
});

test("what a node says is the last word of many, and outlasts its link", async () => {
  for (let n = 0; n < 50; n++) say("one", [`sha256:${String(n).padStart(64, "0")}`]);
  say("one", [digest]);
  say("three", []);
  await expect.poll(() => placedOn(), soon).toEqual(["one"]);
  await links.get("one")?.[Symbol.asyncDispose]();
  await linkUp("one", 10);
  await expect.poll(() => placedOn(), soon).toEqual(["one"]);
});

test("of an agent that does not say it, what is placed there counts, whatever one before said", async () => {
  await links.get("one")?.[Symbol.asyncDispose]();
  await linkUp("one", 9);
  await expect.poll(async () => (await placedOn()).length, soon).toBeGreaterThan(1);
  const { vm } = await ada.vms.createVm({ spec: { image: pitwall.image } });
  expect(names).toContain(vm?.nodeName);
  await links.get(vm?.nodeName ?? "")?.[Symbol.asyncDispose]();
  await linkUp(vm?.nodeName ?? "", 9);
  await expect.poll(() => placedOn(), soon).toEqual([vm?.nodeName]);
});
