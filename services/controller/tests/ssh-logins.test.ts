// As whom members of a project may act in its VMs: what each way in is opened for, what is refused, and what of it ends when that changes.
import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { sshLineOf } from "@pitwall/auth";
import {
  SshWay,
  type AccessServiceDefinition,
  type Caller,
  type CheckedTunnel,
  type OpenTunnelResponse,
  type TunnelTarget,
} from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole, type SshLogins } from "@pitwall/proto/pitwall/v1/project.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway, joinNode, obey, type SpokenLink } from "./support/spoken-node.ts";

const parts = new AsyncDisposableStack();
const project = "team";
const { SSH_WAY_DOOR: door, SSH_WAY_JUMP: jump, SSH_WAY_UNSPECIFIED: unsaid } = SshWay;
const key = (): string => sshLineOf(generateKeyPairSync("ed25519").publicKey);
const [keyOfAda, keyOfBob, givenKey, certifiedKey] = [key(), key(), key(), key()];
const ssh: TunnelTarget["target"] = { $case: "ssh", value: { sessionKey: keyOfBob, keptKeys: undefined, hostCertificate: "" } };
const guestApi: TunnelTarget["target"] = { $case: "guestApi", value: {} };
const tcp = (port: number): TunnelTarget["target"] => ({ $case: "tcp", value: { port } });
let pitwall: TestControllers;
let ada: Calls;
let bob: Calls;
let node: SpokenLink;
let gateway: Client<typeof AccessServiceDefinition>;
let vmId: string;

beforeAll(async () => {
  pitwall = parts.use(await startControllers(1));
  const address = pitwall.controllers[0]?.link ?? "";
  const root = await pitwall.as(admin);
  node = parts.use(await (await joinNode(pitwall, root, "one")).link(address));
  void obey(node, 1_000);
  gateway = parts.use(await joinGateway(pitwall, root, "door")).access(address);
  [ada, bob] = [await pitwall.as("ada"), await pitwall.as("bob")];
  await ada.projects.createProject({ name: project });
  await ada.projects.setProjectMember({ project, subject: "bob", role: ProjectRole.PROJECT_ROLE_MEMBER });
  await ada.profile.addSshKey({ publicKey: keyOfAda });
  await bob.profile.addSshKey({ publicKey: keyOfBob });
  await ada.vms.createVm({ project, name: "web", spec: { image: pitwall.image, authorizedKeys: [givenKey] } });
  vmId = (await ada.vms.waitVm({ vm: "team/web" })).vm?.id ?? "";
}, 120_000);
afterAll(() => parts.disposeAsync());
beforeEach(() => limit({ member: ["dev", "ops"], owner: ["*"] }));

const limit = async (sshLogins: Partial<SshLogins>, ...updateMask: string[]): Promise<void> => {
  await ada.projects.updateProject({ project, value: { sshLogins }, updateMask: updateMask.length > 0 ? updateMask : ["ssh_logins"] });
};

const bearer = async (subject: string): Promise<Caller> => ({
  credential: { $case: "bearerToken", value: await pitwall.token(subject) },
});
const holder = (value: string): Caller => ({ credential: { $case: "sshPublicKey", value } });
async function certified(calls: Calls): Promise<Caller> {
  const { certificate } = await calls.vms.issueSshCertificate({ vm: "team/web", publicKey: certifiedKey });
  return {
    credential: {
      $case: "sshCertificate",
      value: { certificate: Buffer.from(certificate.split(" ")[1] ?? "", "base64"), loginTime: new Date() },
    },
  };
}

interface Opening {
  readonly sshWay?: SshWay;
  readonly sshUser?: string;
  readonly target?: TunnelTarget["target"];
  readonly method?: string;
  readonly host?: string;
}

async function open(caller: Caller, { host = "", ...opening }: Opening = {}): Promise<OpenTunnelResponse> {
  const { target = ssh, sshWay = unsaid, ...rest } = opening;
  return gateway.openTunnel({
    ...{ caller, target: { target }, sshWay, ...rest, sessionId: randomUUID() },
    ...(host === "" ? { vm: vmId } : { host }),
    ...{ token: randomBytes(32).toString("base64url"), gatewayAddress: "127.0.0.1:1" },
  });
}

/** Where the node was told to lead what was opened last. */
const ledTo = (): unknown => node.heard.flatMap((said) => (said.$case === "tunnel" ? [said.value.target?.target] : [])).at(-1);

/** Those of whoever may be anybody. */
const keysKept = async (): Promise<unknown> => ({
  fingerprints: (await ada.profile.listSshKeys({})).keys.map(({ fingerprint }) => fingerprint),
});

const refusal = (why: string): string => `PERMISSION_DENIED in the VM web your role lets you log in as dev, ops, ${why}`;
const notRoot = refusal("not as root");

describe("at the door", () => {
  it("members log in as those users, owners as whomever, and who says no name as the first or as root", async () => {
    const callers = [await bearer("bob"), holder(keyOfBob), await certified(bob)];
    for (const caller of callers) {
      expect(await open(caller, { sshWay: door, sshUser: "ops" })).toMatchObject({ logins: ["ops"] });
      expect(await open(caller, { sshWay: door })).toMatchObject({ logins: ["dev"] });
      expect(await refusalOf(open(caller, { sshWay: door, sshUser: "root" }))).toBe(notRoot);
      expect(await refusalOf(open(caller, { sshWay: door, sshUser: "Dev" }))).toBe(refusal("not as Dev"));
    }
    for (const caller of [await bearer("ada"), holder(keyOfAda)]) {
      expect(await open(caller, { sshWay: door, sshUser: "root" })).toMatchObject({ logins: ["root"] });
      expect(await open(caller, { sshWay: door })).toMatchObject({ logins: ["root"] });
    }
    await limit({ owner: ["ops"] }, "ssh_logins.owner");
    expect(await open(holder(keyOfAda), { sshWay: door })).toMatchObject({ logins: ["ops"] });
  });

  it("the VM is told which keys it keeps when somebody comes who may not be anybody", async () => {
    await open(holder(keyOfBob), { sshWay: door });
    expect(ledTo()).toEqual({ $case: "ssh", value: { sessionKey: keyOfBob, keptKeys: await keysKept(), hostCertificate: "" } });
    await open(holder(keyOfAda), { sshWay: door });
    expect(ledTo()).toEqual(ssh);
  });

  it("a key that was given with a VM, which is nobody's, is a member's", async () => {
    expect(await open(holder(givenKey), { sshWay: door })).toMatchObject({ logins: ["dev"] });
    expect(await refusalOf(open(holder(givenKey), { sshWay: door, sshUser: "root" }))).toBe(notRoot);
  });

  it("an API token of an owner has the role that it was made with", async () => {
    const { secret } = await ada.projects.createApiToken({ project, role: ProjectRole.PROJECT_ROLE_MEMBER });
    const caller: Caller = { credential: { $case: "bearerToken", value: secret } };
    expect(await refusalOf(open(caller, { sshWay: door, sshUser: "root" }))).toBe(notRoot);
  });

  it("who is not of the project hears nothing of its names", async () => {
    expect(await refusalOf(open(await bearer("mallory"), { sshWay: door, sshUser: "root" }))).toMatch(/^NOT_FOUND there is no VM/);
  });

  it("the audit log says as whom, also of who named nobody", async () => {
    await open(holder(keyOfBob), { sshWay: door });
    const [entry] = await pitwall.query(
      "select detail->>'user' as name from audit_entry where action = 'AccessService/OpenTunnel' order by seq desc limit 1",
    );
    expect(entry).toEqual({ name: "dev" });
  });
});

describe("past the door", () => {
  it("a jump tells the VM as whom, by a key, by a certificate, and by a gateway that does not say which way it is", async () => {
    const [withCertificate, value] = [
      await certified(bob),
      { sessionKey: keyOfBob, logins: ["dev", "ops"], keptKeys: await keysKept(), hostCertificate: "" },
    ];
    for (const caller of [holder(keyOfBob), withCertificate, holder(givenKey)])
      for (const sshWay of [jump, unsaid]) {
        expect(await open(caller, { sshWay })).toMatchObject({ logins: ["dev", "ops"] });
        expect(ledTo()).toEqual({ $case: "limitedSsh", value });
      }
    expect(await open(holder(keyOfAda), { sshWay: jump })).toMatchObject({ logins: ["*"] });
    expect(ledTo()).toEqual(ssh);
  });

  it("port 22 is closed to who may not be anybody, from whichever side, and other ports are not", async () => {
    const closed = refusal("which its port 22 does not look at: use ssh, ssh -J or pitwall ssh");
    for (const caller of [await bearer("bob"), holder(keyOfBob), await certified(bob), holder(givenKey)])
      expect(await refusalOf(open(caller, { target: tcp(22) }))).toBe(closed);
    expect(await refusalOf(open(await bearer("bob"), { target: tcp(22), host: vmId }))).toBe(closed);
    expect(await open(await bearer("bob"), { target: tcp(80) })).toMatchObject({ logins: [] });
    expect(await open(await bearer("ada"), { target: tcp(22) })).toMatchObject({ logins: ["*"] });
  });

  it("port 22 is closed to everybody else as well, who are told no names", async () => {
    await ada.vms.updateVm({ vm: vmId, value: { ingress: { publicPorts: [22] } }, updateMask: ["ingress.public_ports"] });
    const anybody: Caller = { credential: { $case: "anonymous", value: {} } };
    expect(await refusalOf(open(anybody, { target: tcp(22), host: vmId }))).toBe(
      "PERMISSION_DENIED this way into the VM is open to those alone who may log in to it as anybody",
    );
    await limit({ member: ["*"] }, "ssh_logins.member");
    expect(await open(anybody, { target: tcp(22), host: vmId })).toMatchObject({ port: 22 });
  });

  it("commands by the API are run as those users, which the VM sees to, and what acts as root is refused", async () => {
    const caller = await bearer("bob");
    for (const method of ["Exec", "StartExec", "AttachExec", "ListExecs"]) {
      expect(await open(caller, { target: guestApi, method: `GuestService/${method}` })).toMatchObject({ logins: ["dev", "ops"] });
      expect(ledTo()).toEqual({ $case: "limitedGuestApi", value: { logins: ["dev", "ops"], keptKeys: await keysKept() } });
    }
    const asRoot = refusal("and this acts as root: use scp or sftp");
    for (const method of ["StatFile", "ListFiles", "ReadFile", "WriteFile", "WatchFiles"])
      expect(await refusalOf(open(caller, { target: guestApi, method: `GuestService/${method}` }))).toBe(asRoot);
    expect(await refusalOf(open(caller, { target: guestApi }))).toBe(asRoot); // a gateway that does not say what it is for
    expect(await open(caller, { target: guestApi, method: "GuestService/ReadLogs" })).toMatchObject({ logins: [] });
    await limit({ member: ["dev", "root"] }, "ssh_logins.member");
    expect(await open(caller, { target: guestApi, method: "GuestService/WriteFile" })).toMatchObject({ logins: ["root"] });
    expect(ledTo()).toEqual(guestApi);
  });

  it("no gateway asks for what only controllers may say", async () => {
    const target: TunnelTarget["target"] = {
      $case: "limitedSsh",
      value: { sessionKey: keyOfBob, logins: ["root"], keptKeys: undefined, hostCertificate: "" },
    };
    expect(await refusalOf(open(holder(keyOfBob), { target, sshWay: jump }))).toMatch(/^INVALID_ARGUMENT target: /);
  });
});

describe("what is open", () => {
  const lost = async (caller: Caller, logins: readonly string[]): Promise<boolean> => {
    const tunnel: Partial<CheckedTunnel> = { caller, vm: vmId, logins: [...logins] };
    const answer = await gateway.checkTunnels({ tunnels: [tunnel] });
    expect(answer.unknown).toEqual([]);
    return answer.lost.length > 0;
  };

  it("ends once its user is no longer one that the role may be, and nothing else does", async () => {
    const [byKey, byCertificate] = [holder(keyOfBob), await certified(bob)];
    for (const caller of [byKey, byCertificate]) expect(await lost(caller, ["dev"])).toBe(false);
    await limit({ member: ["ops"] }, "ssh_logins.member");
    for (const caller of [byKey, byCertificate]) {
      expect(await lost(caller, ["dev"])).toBe(true);
      expect(await lost(caller, ["dev", "ops"])).toBe(true); // a jump: nobody here knows as which of them
      expect(await lost(caller, ["*"])).toBe(true);
      expect(await lost(caller, ["ops"])).toBe(false);
      expect(await lost(caller, [])).toBe(false); // a port
    }
    expect(await lost(holder(keyOfAda), ["*"])).toBe(false);
  });

  it("ends when an owner becomes a member", async () => {
    const eve = holder(key());
    await (await pitwall.as("eve")).profile.addSshKey({ publicKey: eve.credential?.$case === "sshPublicKey" ? eve.credential.value : "" });
    await ada.projects.setProjectMember({ project, subject: "eve", role: ProjectRole.PROJECT_ROLE_OWNER });
    expect(await lost(eve, ["*"])).toBe(false);
    await ada.projects.setProjectMember({ project, subject: "eve", role: ProjectRole.PROJECT_ROLE_MEMBER });
    expect(await lost(eve, ["*"])).toBe(true);
    await ada.projects.removeProjectMember({ project, subject: "eve" });
  });
});

describe("keys in VMs", () => {
  const keysOfNew = async (name: string): Promise<readonly string[]> => {
    await ada.vms.createVm({ project, name, spec: { image: pitwall.image, authorizedKeys: [givenKey] } });
    await ada.vms.waitVm({ vm: `team/${name}` });
    return node.assignments.findLast(({ vmName }) => vmName === name)?.authorizedKeys ?? [];
  };

  it("are those alone whose holders may be anybody", async () => {
    expect(await keysOfNew("limited")).toEqual([keyOfAda]);
    await limit({ member: ["*"], owner: ["ops"] });
    expect(await keysOfNew("open")).toEqual([keyOfBob, givenKey]);
    await limit({ member: ["*"], owner: ["*"] });
    expect(await keysOfNew("free")).toEqual([keyOfAda, keyOfBob, givenKey]);
  });
});

describe("the setting", () => {
  it("is everybody in a new project, is for owners to change, and has an entry", async () => {
    const { project: made } = await ada.projects.createProject({ name: "fresh" });
    expect(made?.sshLogins).toEqual({ member: ["*"], owner: ["*"] });
    const ask = bob.projects.updateProject({ project, value: { sshLogins: { member: ["*"] } }, updateMask: ["ssh_logins.member"] });
    expect(await refusalOf(ask)).toBe("PERMISSION_DENIED ssh_logins.member: this is for owners of the project team");
    await limit({ member: ["web"] }, "ssh_logins.member");
    const [entry] = await pitwall.query(
      "select detail from audit_entry where action = 'ProjectService/UpdateProject' order by seq desc limit 1",
    );
    expect(entry).toEqual({ detail: { memberLogins: ["web"] } });
    expect((await bob.projects.getProject({ project })).project?.sshLogins).toEqual({ member: ["web"], owner: ["*"] });
  });

  it("is tried before it is made, and made of what was seen", async () => {
    const change = { project, value: { sshLogins: { member: ["*"], owner: ["ops"] } }, updateMask: ["ssh_logins"] };
    const { project: planned } = await ada.projects.updateProject({ ...change, validateOnly: true });
    expect(planned?.sshLogins).toEqual({ member: ["*"], owner: ["ops"] });
    const { project: seen } = await ada.projects.getProject({ project });
    expect(seen?.sshLogins).toEqual({ member: ["dev", "ops"], owner: ["*"] });
    await ada.projects.updateProject({ ...change, etag: seen?.etag ?? "" });
    expect(await refusalOf(ada.projects.updateProject({ ...change, etag: seen?.etag ?? "" }))).toMatch(/^ABORTED /);
  });

  it("names the field that is wrong", async () => {
    const refused = (sshLogins: object, ...updateMask: string[]): Promise<string> =>
      refusalOf(ada.projects.updateProject({ project, value: { sshLogins }, updateMask }));
    expect(await refused({ member: ["dev"] }, "ssh_logins")).toMatch(/^INVALID_ARGUMENT value\.ssh_logins\.owner: names nobody/);
    expect(await refused({ member: ["dev", "a b"] }, "ssh_logins.member")).toMatch(
      /^INVALID_ARGUMENT value\.ssh_logins\.member\[1\]: must be a user's name/,
    );
    expect(await refused({}, "ssh_logins.viewer")).toMatch(/^INVALID_ARGUMENT update_mask: "ssh_logins.viewer" cannot be changed/);
  });
});
