import { describe, expect, it, test } from "vitest";
import {
  asArguments,
  asHostBlock,
  doorOptions,
  doorUser,
  pinned,
  proxyCommand,
  shellWord,
  sshOptions,
  type SshGateway,
  type SshVm,
} from "./options.ts";

const id = "0b8f7a52-9d1e-4c3a-8f60-1d2e3f4a5b6c";
const vm: SshVm = { id, alias: id, knownHosts: `/c/ssh/hosts/${id}` };
const gateway: SshGateway = { host: "pw.example", port: 2222, alias: "pitwall-gateway", knownHosts: "/c/ssh/hosts/gateway" };

test("host keys are pinned and no other key is offered", () => {
  expect(pinned(vm, "/c/ssh/id_ed25519")).toEqual([
    ["IdentityFile", "/c/ssh/id_ed25519"],
    ["IdentitiesOnly", "yes"],
    ["PreferredAuthentications", "publickey"],
    ["HostKeyAlias", id],
    ["UserKnownHostsFile", `/c/ssh/hosts/${id}`],
    ["GlobalKnownHostsFile", "/dev/null"],
    ["StrictHostKeyChecking", "yes"],
    ["UpdateHostKeys", "no"],
  ]);
});

test("the way leads through the gateway's jump user to the VM by its id", () => {
  const command = proxyCommand(vm, gateway, "/c/ssh/id_ed25519");
  expect(command).toMatch(/^ssh -F none -o IdentityFile=\/c\/ssh\/id_ed25519 /);
  expect(command).toContain(" -o HostKeyAlias=pitwall-gateway -o UserKnownHostsFile=/c/ssh/hosts/gateway ");
  expect(command.endsWith(` -p 2222 -W ${id}:22 -- jump@pw.example`)).toBe(true);
});

test("blanks, quotes and percent signs in a path survive ssh and the shell", () => {
  const command = proxyCommand(vm, { ...gateway, knownHosts: "/my c%/it's" }, "/k");
  expect(command).toContain(`'UserKnownHostsFile="/my c%%%%/it'\\''s"'`);
});

test("a path that ssh would read otherwise is refused", () => {
  expect(() => pinned(vm, "/home/${USER}/key")).toThrow("its path holds characters that ssh gives a meaning");
  expect(() => pinned(vm, '/a"b')).toThrow("ssh cannot use the file");
});

test("options are spelled for a command line and for a file", () => {
  const options = [
    ["HostKeyAlias", "x"],
    ["StrictHostKeyChecking", "yes"],
  ] as const;
  expect(asArguments(options)).toEqual(["-o", "HostKeyAlias=x", "-o", "StrictHostKeyChecking=yes"]);
  expect(asHostBlock("pitwall-web", options)).toBe("Host pitwall-web\n  HostKeyAlias x\n  StrictHostKeyChecking yes\n");
});

test("at the gateway's own door its key alone is pinned, and the user in the VM is part of the name", () => {
  const options = Object.fromEntries(doorOptions(gateway, "/k"));
  expect(options).toMatchObject({ HostName: "pw.example", Port: "2222", HostKeyAlias: "pitwall-gateway", StrictHostKeyChecking: "yes" });
  expect(options).not.toHaveProperty("ProxyCommand");
  expect([doorUser(vm, "root"), doorUser(vm, "dev")]).toEqual([id, `dev+${id}`]);
});

test("the last option is the proxy command, which takes the rest of its line", () => {
  expect(sshOptions(vm, gateway, "/k").at(-1)?.[0]).toBe("ProxyCommand");
});

describe("a shell word", () => {
  it.each([
    ["plain-1.2:3@x", "plain-1.2:3@x"],
    ["two words", "'two words'"],
    ["it's", `'it'\\''s'`],
    ["$(id)", "'$(id)'"],
    ["", "''"],
  ])("%j is %s", (word, text) => expect(shellWord(word)).toBe(text));
});
