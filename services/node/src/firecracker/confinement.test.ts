import { expect, it } from "vitest";
import { faultsOf, parseStatus, type ThreadFacts } from "./confinement.ts";

const uid = 1_900_000_000;
const ids = Array(4).fill(uid).join("\t");
const none = "0000000000000000";

/** As /proc has it for a thread of a jailed Firecracker. */
function facts(change: Readonly<Record<string, string>> = {}, more: Partial<ThreadFacts> = {}): ThreadFacts {
  const lines: Record<string, string> = {
    ...{
      Name: "fc_vcpu 0",
      Uid: ids,
      Gid: ids,
      Groups: " ",
      CapInh: none,
      CapPrm: none,
      CapEff: none,
      CapBnd: "000001ffffffffff",
      CapAmb: none,
    },
    ...{ NoNewPrivs: "1", Seccomp: "2", Seccomp_filters: "1" },
    ...change,
  };
  const status = parseStatus(
    Object.entries(lines)
      .map(([key, value]) => `${key}:\t${value}`)
      .join("\n"),
  );
  return { name: lines["Name"] ?? "", status, cgroup: "/pitwall/vm-1", sharedNamespaces: [], ...more };
}

const wanted = { uid, cgroup: "/pitwall/vm-1" };

it("has nothing to say of a thread that is confined", () => {
  expect(faultsOf(facts(), wanted, "all")).toEqual([]);
});

it.each([
  ["is root", facts({ Uid: "0\t0\t0\t0" }), "Uid of fc_vcpu 0 is 0\t0\t0\t0"],
  ["could become root again", facts({ Uid: `${uid}\t${uid}\t0\t${uid}` }), "Uid of fc_vcpu 0"],
  ["has another group", facts({ Gid: "0\t0\t0\t0" }), "Gid of fc_vcpu 0"],
  ["has more groups", facts({ Groups: "0 27" }), "Groups of fc_vcpu 0 is 0 27, not empty"],
  ["has a capability", facts({ CapEff: "0000000000200000" }), "CapEff of fc_vcpu 0"],
  ["could have one", facts({ CapPrm: "0000000000200000" }), "CapPrm of fc_vcpu 0"],
  ["hands one on", facts({ CapAmb: "0000000000200000" }), "CapAmb of fc_vcpu 0"],
  ["has no seccomp filter", facts({ Seccomp: "0" }), "fc_vcpu 0 has no seccomp filter"],
  ["is in strict mode, which is not what was asked for", facts({ Seccomp: "1" }), "fc_vcpu 0 has no seccomp filter"],
  ["may gain privileges", facts({ NoNewPrivs: "0" }), "fc_vcpu 0 may gain privileges"],
  ["is in another cgroup", facts({}, { cgroup: "/" }), "the cgroup of fc_vcpu 0 is /"],
  ["sees the host's processes", facts({}, { sharedNamespaces: ["pid"] }), "fc_vcpu 0 is in the host's pid namespace"],
  ["says nothing of itself", { ...facts(), status: new Map() }, "Uid of fc_vcpu 0 is nothing"],
])("has something to say of a thread that %s", (_, thread, fault) => {
  expect(faultsOf(thread, wanted, "all").join("; ")).toContain(fault);
});

it("looks for a filter only on the thread that serves the API until the VM runs, and for all else on each", () => {
  const main = facts({ Name: "firecracker", Seccomp: "0", NoNewPrivs: "0" });
  expect(faultsOf(main, wanted, "api")).toEqual([]);
  expect(faultsOf(main, wanted, "all")).toHaveLength(2);
  expect(faultsOf(facts({ Name: "fc_api", Seccomp: "0" }), wanted, "api")).toEqual(["fc_api has no seccomp filter"]);
  expect(faultsOf(facts({ Name: "firecracker", Uid: "0\t0\t0\t0" }), wanted, "api")).toHaveLength(1);
});
