import { expect, it } from "vitest";
import { learned } from "./addresses.ts";

const at = (name: string): { api: string; link: string } => ({ api: `${name}:1`, link: `${name}:2` });

it("puts those that were named first, and keeps a few that were there before", () => {
  const once = learned([at("b"), at("a")], []);
  expect(once).toEqual([at("a"), at("b")]);
  expect(learned([at("c")], once)).toEqual([at("c"), at("a"), at("b")]);
  expect(learned([at("d"), at("e"), at("f"), at("g")], [at("c"), at("a"), at("b"), at("h"), at("f")])).toEqual(
    ["d", "e", "f", "g", "c", "a", "b"].map(at),
  );
});

it("is the same for the same, in whatever order it was named", () => {
  const known = learned([at("b"), at("a")], []);
  expect(learned([at("a"), at("b")], known)).toEqual(known);
});

it("learns nothing from an empty list, and a new address of the same link", () => {
  expect(learned([], [at("a")])).toEqual([at("a")]);
  expect(learned([{ api: "a:9", link: "a:2" }], [at("a")])).toEqual([{ api: "a:9", link: "a:2" }]);
});
