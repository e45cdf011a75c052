// Every method of the contract has a policy, and every policy a method.
import { readFileSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, it, test } from "vitest";
import { isTokenMethod, methodName, policyOf } from "./policy.ts";

/** The node's alone, on the guest channel; nobody asks the controller for it. */
const notServed = new Set(["pitwall.v1.GuestControlService"]);

const descriptor = fromBinary(FileDescriptorSetSchema, readFileSync(new URL("../../../../gen/descriptor.binpb", import.meta.url)));
const methods = descriptor.file.flatMap((file) =>
  file.service.flatMap((service) =>
    service.method.map((method) => ({
      path: `/${file.package}.${service.name}/${method.name}`,
      service: `${file.package}.${service.name}`,
      name: method.name,
    })),
  ),
);

describe("every method of the contract has a policy", () => {
  it("and there are methods", () => expect(methods.length).toBeGreaterThan(50));
  test.each(methods.filter(({ service }) => !notServed.has(service)))("$path", ({ path }) => expect(policyOf(path)).toBeDefined());
});

describe("a policy says that a method mutates unless its name says that it only looks", () => {
  test.each(methods.filter(({ service }) => service.startsWith("pitwall.v1.") && !notServed.has(service)))("$path", ({ path, name }) => {
    const policy = policyOf(path);
    if (policy === undefined || policy.who === "node" || policy.who === "gateway" || policy.who === "member") return;
    const looks = /^(Get|List|Watch|Wait|Read|Stat|Resolve|Check|Export)/.test(name);
    if (!looks) expect(policy.mutates).toBe(true);
    if (policy.scope === "vm" || policy.scope === "project") expect(policy.least).toBeDefined();
    if (policy.who === "admin") expect(policy.scope).toBe("fleet");
  });
});

test("a path of nobody's has none", () => {
  expect(policyOf("/pitwall.v1.VmService/Nothing")).toBeUndefined();
  expect(policyOf("/pitwall.v1.VmService/constructor")).toBeUndefined();
  expect(policyOf("/constructor/name")).toBeUndefined();
});

test("a token is not given what only people, members or administrators may do", () => {
  expect(methodName("/pitwall.v1.VmService/GetVm")).toBe("VmService/GetVm");
  expect(isTokenMethod("VmService/GetVm")).toBe(true);
  expect(isTokenMethod("GuestService/Exec")).toBe(true);
  for (const name of ["ProjectService/CreateApiToken", "ProfileService/AddSshKey", "NodeService/DrainNode", "LinkService/Connect", "x"])
    expect(isTokenMethod(name)).toBe(false);
});
