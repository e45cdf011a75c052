import { Vm } from "@pitwall/proto/pitwall/v1/vm.ts";
import { expect, it } from "vitest";
import { Feed, type Change } from "./feed.ts";

const change = (revision: bigint): Change => ({ revision, projectId: "one", vm: Vm.fromPartial({ id: `vm-${revision}` }) });

it("tells what came after a token, in order", () => {
  const feed = new Feed(0n);
  for (const revision of [1n, 2n, 3n]) feed.publish(change(revision));
  expect(feed.since(feed.token(1n))?.map(({ revision }) => revision)).toEqual([2n, 3n]);
  expect(feed.since(feed.token(3n))).toEqual([]);
});

it("does not know tokens of another incarnation, nor what it has forgotten, nor nonsense", () => {
  const feed = new Feed(10n);
  feed.publish(change(11n));
  expect(new Feed(0n).since(feed.token(11n))).toBeUndefined();
  expect(feed.since(feed.token(9n))).toBeUndefined();
  expect(feed.since("nonsense")).toBeUndefined();
  expect(feed.since(`${feed.token(11n)}x`)).toBeUndefined();
});

it("gives every listener every change, and ends them all when it closes", async () => {
  const feed = new Feed(0n);
  const [one, two] = [feed.subscribe(), feed.subscribe()];
  feed.publish(change(1n));
  feed.close();
  for (const listener of [one, two]) {
    const seen: bigint[] = [];
    for await (const { revision } of listener) seen.push(revision);
    expect(seen).toEqual([1n]);
  }
});
