// The scheduler on fleets made for one question each.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { explain } from "./explain.ts";
import { Fleet } from "./fleet.ts";
import { place, placeByScan } from "./scheduler.ts";
import type { LabelTerm, NodeFacts, PlacedVm, Wanted } from "./wanted.ts";

const big = { cpuMillis: 64_000, memBytes: 2 ** 38, diskBytes: 2 ** 42 };
const someNode = (n: number, more: Partial<NodeFacts> = {}): NodeFacts => ({
  id: `n${n}`,
  ready: true,
  cordoned: false,
  capacity: big,
  labels: { zone: `z${n % 3}` },
  images: [],
  ...more,
});
const plain: Wanted = {
  project: "p",
  labels: {},
  resources: { cpuMillis: 1000, memBytes: 2 ** 30, diskBytes: 2 ** 32 },
  antiAffinity: [],
  required: [],
  preferred: [],
  spread: [],
  policy: "spread",
  image: "",
};
const full = (n: number): PlacedVm => ({ ...plain, id: `full ${n}`, nodeId: `n${n}`, resources: { ...big, memBytes: 0 } });

describe("of a thousand nodes", () => {
  const count = 1000;

  it("the only one that may is found, though the policy would look at it last", () => {
    fc.assert(
      fc.property(fc.nat(count - 1), fc.constantFrom("spread", "bin-pack"), fc.nat(), (free, policy, seed) => {
        const fleet = new Fleet();
        for (let n = 0; n < count; n++) fleet.setNode(someNode(n, { labels: { zone: `z${n % 3}`, rack: `r${n % 10}` } }));
        const web = { label: { key: "app", value: "web" }, domain: "" };
        for (let n = 0; n < count; n++) if (n !== free) fleet.place({ ...plain, id: `vm ${n}`, nodeId: `n${n}`, labels: { app: "web" } });
        const half = { ...plain.resources, cpuMillis: 32_000 };
        if (policy === "spread") fleet.place({ ...plain, id: "other", nodeId: `n${free}`, resources: half });
        const wants: Wanted = { ...plain, policy, antiAffinity: [web] };
        const rack: LabelTerm = { op: "in", key: "rack", values: [`r${free % 10}`, "r4"] };
        for (const spread of [[], [{ domain: "zone" }], [{ domain: "rack" }]]) {
          expect(place(fleet, { ...wants, spread }, seed)?.nodeId).toBe(`n${free}`);
          expect(place(fleet, { ...wants, spread, required: [rack] }, seed)?.nodeId).toBe(`n${free}`);
        }
        expect(place(fleet, { ...wants, antiAffinity: [{ ...web, domain: "zone" }] }, seed)).toBeUndefined();
      }),
      { numRuns: 10 },
    );
  });

  it("a rare label is found without luck", () => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n, n === 700 ? { labels: { gpu: "a100" } } : {}));
    const terms: LabelTerm[] = [
      { op: "exists", key: "gpu" },
      { op: "in", key: "gpu", values: ["a100", "h100"] },
      { op: "absent", key: "zone" },
    ];
    for (const required of terms) expect(place(fleet, { ...plain, required: [required] }, 1)?.nodeId).toBe("n700");
    expect(place(fleet, { ...plain, preferred: [{ term: terms[0]!, weight: 1 }] }, 1)?.nodeId).toBe("n700");
  });

  it("nodes that are kept for others are not in the way, however many and empty", () => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n, n < 900 ? { labels: { gpu: "l4", zone: `z${n % 3}` } } : {}));
    for (let n = 900; n < count; n++)
      fleet.place({ ...plain, id: `load ${n}`, nodeId: `n${n}`, resources: { ...plain.resources, cpuMillis: 100 * n - 85_000 } });
    const others: Wanted = { ...plain, required: [{ op: "absent", key: "gpu" }] };
    expect(place(fleet, others, 1)).toEqual(placeByScan(fleet, others, 1));
    expect(place(fleet, others, 1)?.nodeId).toBe("n900");
  });

  it("a node with the image is taken, unless it is the fuller by half", () => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n, n === 321 ? { images: ["sha256:1"] } : {}));
    expect(place(fleet, { ...plain, image: "sha256:1" }, 1)?.nodeId).toBe("n321");
    fleet.place({ ...plain, id: "large", nodeId: "n321", resources: { ...plain.resources, cpuMillis: 33_000 } });
    expect(place(fleet, { ...plain, image: "sha256:1" }, 1)?.nodeId).not.toBe("n321");
  });

  it.each([3, 10])("VMs of a group go round %i failure domains", (zones) => {
    const fleet = new Fleet();
    for (let n = 0; n < count; n++) fleet.setNode(someNode(n, { labels: { zone: `z${n % zones}` } }));
    const web: Wanted = { ...plain, labels: { app: "web" }, spread: [{ label: { key: "app", value: "web" }, domain: "zone" }] };
    const perZone = Array.from({ length: zones }, () => 0);
    for (let n = 0; n < 30; n++) {
      const { nodeId: id } = place(fleet, web, n)!;
      fleet.place({ ...web, id: `web-${n}`, nodeId: id });
      perZone[Number(id.slice(1)) % zones]! += 1;
    }
    expect(new Set(perZone)).toEqual(new Set([30 / zones]));
  });

  it("bin-pack fills one node before it begins the next; spread begins them all", () => {
    const nodesUsed = (policy: Wanted["policy"]): number => {
      const fleet = new Fleet();
      for (let n = 0; n < count; n++) fleet.setNode(someNode(n));
      const used = new Set<string>();
      for (let n = 0; n < 128; n++) {
        const { nodeId: id } = place(fleet, { ...plain, policy }, n)!;
        fleet.place({ ...plain, id: `vm ${n}`, nodeId: id });
        used.add(id);
      }
      return used.size;
    };
    expect(nodesUsed("bin-pack")).toBe(2); // 64 VMs fit on each
    expect(nodesUsed("spread")).toBe(128);
  });
});

it("a label may come to have many values, and few again", () => {
  const fleet = new Fleet();
  const wants = (n: number): Wanted => ({ ...plain, required: [{ op: "in", key: "host", values: [`h${n}`] }] });
  const byHost = (n: number): Wanted => ({ ...wants(n), antiAffinity: [{ domain: "host" }] });
  const present = new Set<number>();
  const check = (): void => {
    for (let n = 0; n < 20; n++) {
      const expected = present.has(n) ? `n${n}` : undefined;
      expect(place(fleet, wants(n), n)?.nodeId).toBe(expected);
      expect(place(fleet, byHost(n), n)?.nodeId).toBe(n === 3 ? undefined : expected);
    }
  };
  const order = [...Array(20).keys()];
  for (const n of order) {
    fleet.setNode(someNode(n, { labels: { host: `h${n}` } }));
    present.add(n);
    if (n === 3) fleet.place({ ...plain, id: "vm", nodeId: "n3" });
    if (n >= 3) check();
  }
  for (const n of order.filter((number) => number > 3)) {
    if (n % 2 === 1) fleet.removeNode(`n${n}`);
    else fleet.setNode(someNode(n, { labels: { host: "h3" }, ready: false }));
    present.delete(n);
    check();
  }
});

it("an image that a node has lost counts no more", () => {
  const fleet = new Fleet();
  for (const n of [0, 1, 2]) fleet.setNode(someNode(n, { images: ["sha256:1"] }));
  for (const n of [0, 1]) fleet.setNode(someNode(n));
  for (let seed = 0; seed < 8; seed++) expect(place(fleet, { ...plain, image: "sha256:1" }, seed)?.nodeId).toBe("n2");
});

it("says what stands against a node in words", () => {
  const fleet = new Fleet();
  fleet.setNode(someNode(0, { ready: false }));
  fleet.setNode(someNode(1, { cordoned: true }));
  fleet.setNode(someNode(2, { labels: { zone: "far" } }));
  fleet.setNode(someNode(3));
  fleet.setNode(someNode(4, { capacity: { ...big, memBytes: 2 ** 29 } }));
  fleet.setNode(someNode(5));
  fleet.setNode(someNode(6));
  fleet.place({ ...plain, id: "a", nodeId: "n3", labels: { app: "web" } });
  fleet.place({ ...plain, id: "b", nodeId: "n5", resources: { ...plain.resources, cpuMillis: 2000 } });
  const vm: Wanted = {
    ...plain,
    required: [{ op: "not-in", key: "zone", values: ["far"] }],
    antiAffinity: [{ label: { key: "app", value: "web" }, domain: "" }],
  };
  const chosen = place(fleet, vm, 0);
  expect(chosen?.nodeId).toBe("n6");
  expect(explain(fleet, vm, chosen).map(({ nodeId: id, why, message }) => `${id} ${why}: ${message}`)).toEqual([
    "n0 not-ready: it is not ready",
    "n1 cordoned: it is cordoned",
    'n2 label: its label zone is "far", which is ruled out',
    "n3 anti-affinity: it has a VM with app=web",
    "n4 no-room: not enough memory (wanted 1024 MiB, free 512 MiB)",
    "n5 scored-lower: it would do, but scores 0.953; the chosen one 0.984",
  ]);
});

it("does not take a VM for a node that it does not know", () => {
  expect(() => new Fleet().place(full(1))).toThrow("VM full 1 is on node n1, which the fleet does not know");
});
