import { describe, expect, it, test } from "vitest";
import { checkedProject, checkedVm, gatewayAddress, knownHosts, knownHostsLine, parseDestination } from "./places.ts";

const key = `ssh-ed25519 ${"A".repeat(68)}`;
const discovery = { issuer: "", audience: "", clientId: "", sshHost: "ssh.example", sshPort: 2222, sshHostKey: key };

describe("the gateway's SSH address", () => {
  test("is what it says", () => expect(gatewayAddress(discovery, "https://pw.example")).toEqual({ host: "ssh.example", port: 2222 }));
  it.each(["0.0.0.0", "::", ""])("is the endpoint's host when it listens on %j", (sshHost) => {
    expect(gatewayAddress({ ...discovery, sshHost }, "https://pw.example:8443")).toEqual({ host: "pw.example", port: 2222 });
    expect(gatewayAddress({ ...discovery, sshHost }, "http://[::1]:8080").host).toBe("::1");
  });
  it.each(["-oProxyCommand=id", "a b", "a;id", "a\nb", "$(id)"])("is refused as %j", (sshHost) => {
    expect(() => gatewayAddress({ ...discovery, sshHost }, "https://pw.example")).toThrow("names no usable SSH address");
  });
  it.each([0, 65_536, 1.5])("is refused with port %s", (sshPort) => {
    expect(() => gatewayAddress({ ...discovery, sshPort }, "https://pw.example")).toThrow("names no usable SSH address");
  });
});

describe("a pinned host key", () => {
  test("is one line", () => expect(knownHostsLine("pitwall-gateway", key, "the gateway")).toBe(`pitwall-gateway ${key}\n`));
  it.each(["", "ssh-rsa AAAA", `${key}\n@cert-authority * ${key}`, `${key} comment`])("is refused as %j", (bad) => {
    expect(() => knownHostsLine("x", bad, "the VM web")).toThrow("the SSH host key of the VM web is not known or damaged");
  });
});

describe("what known_hosts needs of an installation", () => {
  const authority = `ssh-ed25519 ${"B".repeat(68)}`;
  const of = (change: Partial<typeof discovery>, by = authority): string =>
    knownHosts({ ...discovery, ...change }, "https://pw.example", by);
  const believed = `@cert-authority *,!*.*,!*:* ${authority}\n`;
  test("is the gateway's key, and who is believed of VMs", () => expect(of({})).toBe(`[ssh.example]:2222 ${key}\n${believed}`));
  test("names no usual port", () => expect(of({ sshPort: 22 })).toBe(`ssh.example ${key}\n${believed}`));
  it.each(["ssh-rsa AAAA", `${authority}\n* ${authority}`])("is refused with the authority %j", (by) =>
    expect(() => of({}, by)).toThrow("the authority of host keys at https://pw.example is damaged"),
  );
  test("is not made up for a server that has none", () => expect(() => of({}, "")).toThrow("certifies no host keys"));
});

test("an id that is a path and a name that is a pattern are refused", () => {
  const id = "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c";
  expect(checkedVm({ id, name: "web" })).toEqual({ id, name: "web" });
  expect(() => checkedVm({ id: "../../x", name: "web" })).toThrow("by what are no id and name");
  expect(() => checkedVm({ id, name: "*\n  ProxyCommand id" })).toThrow("by what are no id and name");
});

test("a project that is a pattern is refused", () => {
  expect(checkedProject("team")).toBe("team");
  expect(() => checkedProject("team *")).toThrow("by what is no name");
});

describe("a destination", () => {
  it.each([
    ["web", { user: undefined, vm: "web" }],
    ["ada@web", { user: "ada", vm: "web" }],
  ])("%s is understood", (text, destination) => expect(parseDestination(text)).toEqual(destination));
  it.each(["", "ada@", "@web", "-oX=y@web", "a b@web"])("%j is refused", (text) =>
    expect(() => parseDestination(text)).toThrow("is no [USER@]VM"),
  );
});
