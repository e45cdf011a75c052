// Locks on VMs and users: whom they keep out, what they end, and who sets them.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { sshLineOf } from "@pitwall/auth";
import { SshWay, type AccessServiceDefinition, type Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway } from "./support/spoken-node.ts";

const parts = new AsyncDisposableStack();
const project = "team";
let pitwall: TestControllers;
let [ada, bob, root]: Calls[] = [];
let gateway: Client<typeof AccessServiceDefinition>;
/** By each kind of thing that lets bob in. */
const ways = new Map<string, Caller>();
let vmId: string;

beforeAll(async () => {
  pitwall = parts.use(await startControllers());
  parts.use(await startNode(pitwall, { name: "one" }));
  const [owner, member, administrator] = [await pitwall.as("ada"), await pitwall.as("bob"), await pitwall.as(admin)];
  [ada, bob, root] = [owner, member, administrator];
  await owner.projects.createProject({ name: project });
  await owner.projects.setProjectMember({ project, subject: "bob", role: ProjectRole.PROJECT_ROLE_MEMBER });
  await owner.vms.createVm({ project, name: "web", spec: { image: pitwall.image } });
  vmId = (await owner.vms.waitVm({ vm: "team/web" })).vm?.id ?? "";
  gateway = parts.use(await joinGateway(pitwall, administrator, "door")).access(pitwall.controllers[0]?.link ?? "");
  const publicKey = sshLineOf(generateKeyPairSync("ed25519").publicKey);
  await member.profile.addSshKey({ publicKey });
  const { certificate } = await member.vms.issueSshCertificate({ vm: vmId, publicKey });
  const { secret } = await member.projects.createApiToken({ project, role: ProjectRole.PROJECT_ROLE_MEMBER });
  const blob = Buffer.from(certificate.split(" ")[1] ?? "", "base64");
  ways.set("sign-in", { credential: { $case: "bearerToken", value: await pitwall.token("bob") } });
  ways.set("API token", { credential: { $case: "bearerToken", value: secret } });
  ways.set("key", { credential: { $case: "sshPublicKey", value: publicKey } });
  ways.set("certificate", { credential: { $case: "sshCertificate", value: { certificate: blob, loginTime: new Date() } } });
}, 120_000);
afterAll(() => parts.disposeAsync());

/** What each way in is told, and which of those that are open are lost. */
async function answers(callers: ReadonlyMap<string, Caller> = ways): Promise<{ readonly told: Set<string>; readonly lost: number }> {
  const told = new Set<string>();
  const about = { vm: vmId, token: randomBytes(32).toString("base64url"), gatewayAddress: "127.0.0.1:1", sshWay: SshWay.SSH_WAY_DOOR };
  for (const caller of callers.values()) {
    told.add(await refusalOf(gateway.openTunnel({ caller, ...about, target: { target: { $case: "tcp", value: { port: 80 } } } })));
    told.add(await refusalOf(gateway.openTunnel({ caller, ...about, target: { target: { $case: "ssh", value: { sessionKey: "" } } } })));
  }
  const tunnels = [...callers.values()].map((caller) => ({ caller, vm: vmId, method: "" }));
  return { told, lost: (await gateway.checkTunnels({ tunnels })).lost.length };
}
const open = { told: new Set(["OK"]), lost: 0 };

it("a locked VM is closed to everybody, by whatever they have, until it is released", async () => {
  expect(await answers()).toEqual(open);
  await ada?.sessions.lockVm({ vm: "team/web", reason: "under investigation" });
  const refusal = "PERMISSION_DENIED the VM web is locked: under investigation";
  const owner = new Map([["owner", { credential: { $case: "bearerToken" as const, value: await pitwall.token("ada") } }]]);
  expect(await answers()).toEqual({ told: new Set([refusal]), lost: ways.size });
  expect(await answers(owner)).toEqual({ told: new Set([refusal]), lost: 1 });
  expect((await bob?.sessions.listLocks({ project }))?.locks).toMatchObject([
    { vm: "web", subject: "", reason: "under investigation", createdBy: "ada" },
  ]);
  expect(await refusalOf(bob?.vms.issueIngressGrant({ vm: "team/web" }) ?? Promise.resolve())).toBe(refusal);
  await ada?.sessions.unlockVm({ vm: "team/web" });
  expect(await answers()).toEqual(open);
  expect(await refusalOf(ada?.sessions.unlockVm({ vm: "team/web" }) ?? Promise.resolve())).toBe("NOT_FOUND the VM web is not locked");
});

it("a locked user is kept out of VMs, by whatever they have, and nobody else is", async () => {
  await root?.sessions.lockUser({ subject: "bob", reason: "device lost" });
  const refusal = "PERMISSION_DENIED you are locked out: device lost";
  expect(await answers()).toEqual({ told: new Set([refusal]), lost: ways.size });
  const publicKey = sshLineOf(generateKeyPairSync("ed25519").publicKey);
  expect(await refusalOf(bob?.vms.issueSshCertificate({ vm: vmId, publicKey }) ?? Promise.resolve())).toBe(refusal);
  const key = ways.get("key")?.credential;
  expect(await refusalOf(gateway.authorizeSsh({ sshPublicKey: key?.$case === "sshPublicKey" ? key.value : "", vm: vmId }))).toBe(refusal);
  const others = new Map([["ada", { credential: { $case: "bearerToken" as const, value: await pitwall.token("ada") } }]]);
  expect(await answers(others)).toEqual(open);
  expect((await root?.sessions.listLocks({ project: "-" }))?.locks).toMatchObject([{ subject: "bob", vm: "", reason: "device lost" }]);
  await root?.sessions.unlockUser({ subject: "bob" });
  expect(await answers()).toEqual(open);
});

it("a locked user is kept out of the API, too, and what is open of it ends within 5 seconds", async () => {
  const { secret } = (await bob?.projects.createApiToken({ project })) ?? { secret: "" };
  const tool = pitwall.withHeader(`Bearer ${secret}`);
  const watched = async (calls: Calls | undefined, synced: () => void): Promise<void> => {
    for await (const message of calls?.vms.watchVms({ project }) ?? []) if (message.synced) synced();
  };
  const watches = [bob, tool, ada].map((calls) => {
    const synced = Promise.withResolvers<void>();
    return { synced: synced.promise, ended: refusalOf(watched(calls, synced.resolve)) };
  });
  const waits = refusalOf(bob?.vms.waitVm({ vm: vmId, phases: [Phase.PHASE_STOPPED] }) ?? Promise.resolve());
  await Promise.all(watches.map(({ synced }) => synced));
  await root?.sessions.lockUser({ subject: "bob" });
  const lockedMs = performance.now();
  const [byBob, byTool, byAda] = watches.map(({ ended }) => ended);
  const refusal = "PERMISSION_DENIED you are locked out";
  expect(await Promise.all([byBob, byTool, waits])).toEqual([refusal, refusal, refusal]);
  expect(performance.now() - lockedMs).toBeLessThan(5_000);
  expect(await refusalOf(bob?.vms.listVms({ project }) ?? Promise.resolve())).toBe(refusal);
  expect(await refusalOf(tool.vms.listVms({ project }))).toBe(refusal);
  expect(await Promise.race([byAda, Promise.resolve("goes on")])).toBe("goes on");
  await root?.sessions.unlockUser({ subject: "bob" });
  await expect.poll(() => refusalOf(bob?.vms.listVms({ project }) ?? Promise.resolve()), { timeout: 5_000 }).toBe("OK");
});

it("a key that lets nobody in by itself is not let in either once its user is locked out", async () => {
  const key = ways.get("key")?.credential;
  const ask = (): Promise<string> =>
    refusalOf(gateway.authorizeSsh({ sshPublicKey: key?.$case === "sshPublicKey" ? key.value : "", vm: "" }));
  expect(await ask()).toBe("OK");
  await root?.sessions.lockUser({ subject: "bob" });
  expect(await ask()).toBe("PERMISSION_DENIED you are locked out");
  await root?.sessions.unlockUser({ subject: "bob" });
});

it("a key that was given with a VM opens it by its name, its project's and its own, and by no other", async () => {
  const sshPublicKey = sshLineOf(generateKeyPairSync("ed25519").publicKey);
  await ada?.vms.createVm({ project, name: "keyed", spec: { image: pitwall.image, authorizedKeys: [sshPublicKey] } });
  const ask = (vm: string): Promise<string> => refusalOf(gateway.authorizeSsh({ sshPublicKey, vm }));
  expect([await ask("keyed"), await ask("team/keyed")]).toEqual(["OK", "OK"]);
  for (const vm of ["web", "team/web", "ada/keyed", "nowhere/keyed"]) expect(await ask(vm)).toBe(`NOT_FOUND there is no VM "${vm}"`);
});

it("nobody locks themselves out", async () => {
  expect(await refusalOf(root?.sessions.lockUser({ subject: admin }) ?? Promise.resolve())).toMatch(
    /^INVALID_ARGUMENT subject: must be somebody else/,
  );
});

it("locks are set by who may, and have entries", async () => {
  expect(await refusalOf(bob?.sessions.lockVm({ vm: "team/web" }) ?? Promise.resolve())).toBe(
    "PERMISSION_DENIED your role for the VM web is member; this needs owner",
  );
  expect(await refusalOf(ada?.sessions.listLocks({ project: "-" }) ?? Promise.resolve())).toBe(
    "PERMISSION_DENIED project: all locks are for administrators",
  );
  const entries = await pitwall.query(
    "select distinct actor, action from audit_entry where action ~ 'lock(Vm|User)$' or action ~ 'Lock' order by action",
  );
  expect(entries).toEqual([
    { actor: admin, action: "SessionService/LockUser" },
    { actor: "ada", action: "SessionService/LockVm" },
    { actor: admin, action: "SessionService/UnlockUser" },
    { actor: "ada", action: "SessionService/UnlockVm" },
  ]);
});
