// Certificates of VMs' SSH host keys: what each jump tells its VM to show, to whom it says which name, and when there is none.
import { execFile } from "node:child_process";
import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { sshLineOf } from "@pitwall/auth";
import { SshWay, type AccessServiceDefinition, type Caller, type TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openCa } from "../src/ca/ca.ts";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { joinGateway, joinNode, reportOf, stayHeard, type SpokenLink } from "./support/spoken-node.ts";
import { eventually } from "./support/installation.ts";

const parts = new AsyncDisposableStack();
const key = (): string => sshLineOf(generateKeyPairSync("ed25519").publicKey);
const [keyOfAda, keyOfBob, givenKey] = [key(), key(), key()];
const { SSH_WAY_DOOR: door, SSH_WAY_JUMP: jump } = SshWay;
const hourMs = 3_600_000;
let pitwall: TestControllers;
let ada: Calls;
let bob: Calls;
let node: SpokenLink;
let gateway: Client<typeof AccessServiceDefinition>;
/** Of `web` in ada's own project, and in `team`. */
let [own, shared] = ["", ""];
const hostKeys = new Map<string, string>();

beforeAll(async () => {
  pitwall = parts.use(await startControllers(2));
  const address = pitwall.controllers[0]?.link ?? "";
  const root = await pitwall.as(admin);
  node = parts.use(await (await joinNode(pitwall, root, "one")).link(address));
  void stayHeard(node, 1_000);
  gateway = parts.use(await joinGateway(pitwall, root, "door")).access(address);
  [ada, bob] = [await pitwall.as("ada"), await pitwall.as("bob")];
  await ada.profile.addSshKey({ publicKey: keyOfAda });
  await bob.profile.addSshKey({ publicKey: keyOfBob });
  await ada.projects.createProject({ name: "team" });
  await ada.projects.setProjectMember({ project: "team", subject: "bob", role: ProjectRole.PROJECT_ROLE_MEMBER });
  own = await running({ name: "web", spec: { image: pitwall.image } });
  shared = await running({ project: "team", name: "web", spec: { image: pitwall.image, authorizedKeys: [givenKey] } });
}, 120_000);
afterAll(() => parts.disposeAsync());

async function running(request: Parameters<Calls["vms"]["createVm"]>[0]): Promise<string> {
  const id = (await ada.vms.createVm(request)).vm?.id ?? "";
  hostKeys.set(id, key());
  await says(id, {});
  return id;
}

/** What the node says of a VM, as it was assigned last; once it is known. */
async function says(id: string, change: Partial<ReturnType<typeof reportOf>>): Promise<void> {
  const assigned = await eventually(() => node.assignments.findLast(({ vmId }) => vmId === id));
  const report = { ...reportOf(assigned), sshHostKey: hostKeys.get(id) ?? "", ...change };
  node.say({ $case: "report", value: report });
  await eventually(async () => {
    const { vm } = await ada.vms.getVm({ vm: id });
    return (vm?.phase === report.phase && (report.sshHostKey === "" || vm.sshHostKey === report.sshHostKey)) || undefined;
  });
}

interface Shown {
  readonly sshWay?: SshWay;
  /** Of the gateway's own. */
  readonly hostCertificate?: string;
}

/** What the VM is told to show to who holds this key. */
async function shownTo(publicKey: string, vm: string, { sshWay = jump, hostCertificate = "" }: Shown = {}): Promise<string> {
  const caller: Caller = { credential: { $case: "sshPublicKey", value: publicKey } };
  const token = randomBytes(32).toString("base64url");
  await gateway.openTunnel({
    ...{ caller, vm, sshWay, sessionId: randomUUID(), token, gatewayAddress: "127.0.0.1:1" },
    target: { target: { $case: "ssh", value: { sessionKey: publicKey, hostCertificate } } },
  });
  const target: TunnelTarget["target"] = await eventually(
    () => node.heard.flatMap((said) => (said.$case === "tunnel" && said.value.token === token ? [said.value.target?.target] : []))[0],
  );
  if (target?.$case !== "ssh" && target?.$case !== "limitedSsh") throw new Error(`it leads to ${target?.$case}`);
  return target.value.hostCertificate;
}

let files = 0;

/** What ssh-keygen reads in it. */
async function read(certificate: string): Promise<Readonly<Record<string, string | readonly string[]>>> {
  const file = join(pitwall.dir, `shown-${files++}-cert.pub`);
  await writeFile(file, `${certificate}\n`);
  const { stdout } = await promisify(execFile)("ssh-keygen", ["-L", "-f", file], { env: { ...process.env, TZ: "UTC" } });
  const of = (name: string): string => new RegExp(`^ +${name}: (.*)$`, "m").exec(stdout)?.[1]?.trim() ?? "";
  const [, principals = ""] = /Principals: \n([^]*?) +Critical Options/.exec(stdout) ?? [];
  return {
    ...{ type: of("Type"), key: of("Public key"), by: of("Signing CA"), keyId: of("Key ID"), valid: of("Valid") },
    principals: principals.trim().split(/\s+/),
  };
}

async function fingerprint(line: string): Promise<string> {
  const file = join(pitwall.dir, `line-${files++}.pub`);
  await writeFile(file, `${line}\n`);
  return (await promisify(execFile)("ssh-keygen", ["-l", "-f", file])).stdout.split(" ")[1] ?? "";
}

const authorityOf = async (calls: Calls): Promise<string> => (await calls.profile.getProfile({})).sshHostAuthority;

it("says of a VM of one's own project its id and its name, and is of its host key, for a while", async () => {
  const certificate = await read(await shownTo(keyOfAda, "web"));
  expect(certificate).toMatchObject({
    ...{ type: "ssh-ed25519-cert-v01@openssh.com host certificate", keyId: `"${own}"`, principals: [own, "web"] },
    key: `ED25519-CERT ${await fingerprint(hostKeys.get(own) ?? "")}`,
    by: `ED25519 ${await fingerprint(await authorityOf(ada))} (using ssh-ed25519)`,
  });
  const [, from = "", to = ""] = /^from (\S+) to (\S+)$/.exec(String(certificate["valid"])) ?? [];
  const [begin, end] = [Date.parse(`${from}Z`), Date.parse(`${to}Z`)];
  expect(end - begin).toBe(2 * hourMs);
  expect(Math.abs(Date.now() - hourMs - begin)).toBeLessThan(60_000);
  expect((await read(await shownTo(keyOfAda, own)))["principals"]).toEqual([own, "web"]);
});

it("says of another project's VM of the same name its id alone, whoever comes, also as one of some users", async () => {
  expect((await read(await shownTo(keyOfAda, shared)))["principals"]).toEqual([shared]);
  expect((await read(await shownTo(keyOfBob, shared)))["principals"]).toEqual([shared]);
  await ada.projects.updateProject({ project: "team", value: { sshLogins: { member: ["dev"] } }, updateMask: ["ssh_logins.member"] });
  expect((await read(await shownTo(keyOfBob, shared)))["principals"]).toEqual([shared]);
});

it("says the id alone of a VM of somebody else's personal project", async () => {
  const { vm } = await ada.vms.getVm({ vm: own });
  await ada.projects.setProjectMember({ project: vm?.project ?? "", subject: "bob", role: ProjectRole.PROJECT_ROLE_OWNER });
  expect((await read(await shownTo(keyOfBob, own)))["principals"]).toEqual([own]);
});

it("is signed for each user by an authority of their own, the same by all controllers, which signs no logins", async () => {
  const [ofAda, ofBob] = [await authorityOf(ada), await authorityOf(bob)];
  expect(await authorityOf(await pitwall.as("ada", 1))).toBe(ofAda);
  expect((await read(await shownTo(keyOfBob, shared)))["by"]).toContain(await fingerprint(ofBob));
  expect(new Set([ofAda, ofBob, ...node.welcome.sshUserAuthorities]).size).toBe(3);
  const ca = await openCa(join(pitwall.dir, "controller-1", "ca"));
  expect(sshLineOf(ca.sshHostAuthority("ada"))).toBe(ofAda);
});

it("says the id alone to who comes by a key that was given with a VM, by the authority of its owner", async () => {
  const certificate = await read(await shownTo(givenKey, "web"));
  expect(certificate["principals"]).toEqual([shared]);
  expect(certificate["by"]).toContain(await fingerprint(await authorityOf(ada)));
});

it("says the new name of a VM that was renamed, and no more the old one", async () => {
  await ada.vms.renameVm({ vm: own, name: "shop" });
  expect((await read(await shownTo(keyOfAda, "shop")))["principals"]).toEqual([own, "shop"]);
  await ada.vms.renameVm({ vm: own, name: "web" });
});

it("is not made where the gateway logs in, and a gateway cannot bring its own", async () => {
  const forged = "ssh-ed25519-cert-v01@openssh.com AAAA";
  expect(await shownTo(keyOfAda, own, { sshWay: door, hostCertificate: forged })).toBe("");
  expect((await read(await shownTo(keyOfAda, own, { hostCertificate: forged })))["principals"]).toEqual([own, "web"]);
});

it("is not made of a key that has changed where the VM is, and again where it begins anew", async () => {
  const id = await running({ name: "moved", spec: { image: pitwall.image } });
  expect(await shownTo(keyOfAda, id)).not.toBe("");
  const first = hostKeys.get(id) ?? "";
  for (const again of [key(), first]) {
    await says(id, { sshHostKey: again });
    expect(await shownTo(keyOfAda, id), "also not of the first one, said again").toBe("");
  }
  const last = node.assignments.findLast(({ vmId }) => vmId === id);
  if (!last) throw new Error("it was never assigned");
  node.say({ $case: "report", value: { ...reportOf(last), phase: Phase.PHASE_GONE } });
  await eventually(async () => (await ada.vms.getVm({ vm: id })).vm?.reason === "VM_LOST" || undefined);
  const { vm } = await ada.vms.startVm({ vm: id });
  await eventually(() => node.assignments.find(({ vmId, generation }) => vmId === id && generation === vm?.generation));
  await says(id, { sshHostKey: key() });
  expect((await read(await shownTo(keyOfAda, id)))["principals"]).toEqual([id, "moved"]);
});

it("is not made of what is no ed25519 key: the way is open all the same", async () => {
  for (const [name, odd] of [
    ["rsa", "ssh-rsa AAAAB3NzaC1yc2E="],
    ["short", "ssh-ed25519 AAAA"],
  ] as const) {
    const other = (await ada.vms.createVm({ name, spec: { image: pitwall.image } })).vm?.id ?? "";
    await says(other, { sshHostKey: odd });
    expect(await shownTo(keyOfAda, other)).toBe("");
  }
});
