import { expect, test } from "vitest";
import type { Store } from "../store/store.ts";
import { NodeLinks, noLink, type Relay } from "./links.ts";
import { Sessions } from "./sessions.ts";

const never = async (): Promise<never> => {
  throw noLink();
};

test("a link that has been closed is not the way to its node, though its stream has not ended yet", () => {
  const sessions = new Sessions();
  const relay: Relay = { ask: never, askNetwork: never, tunnel: never, assign: never };
  const links = new NodeLinks({ store: {} as Store, sessions, relay, ownId: "c" }); // the store is not asked for what is here
  sessions.begin("n", 1n, 3);
  expect(links.here("n")).toBeDefined();
  sessions.supersede("n", 2n); // another controller has the newer one
  expect(links.here("n")).toBeUndefined();
});
