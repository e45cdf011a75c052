import { seededRandom } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { Startups, type Startup } from "./startups.ts";

interface Named extends Startup {
  readonly name: string;
}

const from = (source: string, name: string, isSilent = false): Named => ({ source, name, isSilent: () => isSilent });
const random = seededRandom("startups");

it("drops nobody up to the first number", () => {
  const startups = new Startups<Named>(50, 100, () => 0);
  const dropped = Array.from({ length: 50 }, (_, index) => startups.began(from("a", `a${index}`)));
  expect(dropped.filter((each) => each !== undefined)).toEqual([]);
});

it("drops ever more between the two numbers, and one for each beyond", () => {
  const startups = new Startups<Named>(50, 100, random);
  for (let index = 0; index < 2_000; index++) startups.began(from("a", `a${index}`));
  expect(startups.size).toBeLessThanOrEqual(100);
  expect(startups.size).toBeGreaterThan(50);
});

it("takes one of the source that has the most, and a silent one before others", () => {
  const startups = new Startups<Named>(3, 4, () => 0);
  startups.began(from("good", "good"));
  startups.began(from("bad", "speaks"));
  startups.began(from("bad", "silent", true));
  expect(startups.began(from("bad", "silent too", true))?.name).toBe("silent");
  expect(startups.began(from("good", "good too"))?.name).toBe("good");
});

it("lets one in who speaks, whatever number of silent ones there is", () => {
  const startups = new Startups<Named>(50, 100, random);
  const dropped = new Set<string | undefined>();
  const good = from("a", "good");
  startups.began(good);
  for (let index = 0; index < 2_000; index++) dropped.add(startups.began(from("a", `silent ${index}`, true))?.name);
  expect(dropped.has("good")).toBe(false);
});

it("does not count who has logged in", () => {
  const startups = new Startups<Named>(1, 1, () => 0);
  const first = from("a", "first");
  startups.began(first);
  startups.ended(first);
  expect(startups.began(from("a", "second"))).toBeUndefined();
});
