// Certificates that open a VM by SSH: who gets one, what it opens, and that nothing else does.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { issueSshCertificate, readSshCertificate, sshLineOf } from "@pitwall/auth";
import type { AccessServiceDefinition, OpenTunnelResponse } from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway } from "./support/spoken-node.ts";

const parts = new AsyncDisposableStack();
const minuteMs = 60_000;
const publicKey = sshLineOf(generateKeyPairSync("ed25519").publicKey);
let pitwall: TestControllers;
let ada: Calls;
let gateway: Client<typeof AccessServiceDefinition>;
let vmId: string;

beforeAll(async () => {
  pitwall = parts.use(await startControllers(2));
  parts.use(await startNode(pitwall, { name: "one" }));
  ada = await pitwall.as("ada");
  await ada.projects.createProject({ name: "team" });
  for (const name of ["web", "other"]) await ada.vms.createVm({ project: "team", name, spec: { image: pitwall.image } });
  vmId = (await ada.vms.waitVm({ vm: "team/web" })).vm?.id ?? "";
  await ada.vms.waitVm({ vm: "team/other" });
  const door = parts.use(await joinGateway(pitwall, await pitwall.as(admin), "door"));
  gateway = door.access(pitwall.controllers[1]?.link ?? ""); // the one that did not make the certificates
}, 120_000);
afterAll(() => parts.disposeAsync());

const blobOf = (line: string): Buffer => Buffer.from(line.split(" ")[1] ?? "", "base64");

async function issued(calls = ada): Promise<Buffer> {
  return blobOf((await calls.vms.issueSshCertificate({ vm: "team/web", publicKey })).certificate);
}

async function open(certificate: Uint8Array, { vm = vmId, agoMs = 0 } = {}): Promise<OpenTunnelResponse> {
  return gateway.openTunnel({
    caller: { credential: { $case: "sshCertificate", value: { certificate, loginTime: new Date(Date.now() - agoMs) } } },
    vm,
    target: { target: { $case: "tcp", value: { port: 80 } } },
    token: randomBytes(32).toString("base64url"),
    gatewayAddress: "127.0.0.1:1",
  });
}

it("is made for a key, a VM and ten minutes, by any controller, and is believed by all", async () => {
  const { certificate, expireTime } = await ada.vms.issueSshCertificate({ vm: "team/web", publicKey });
  const read = readSshCertificate(blobOf(certificate));
  expect(read).toMatchObject({
    publicKey,
    keyId: "ada",
    principals: [vmId],
    criticalOptions: [],
    extensions: ["permit-port-forwarding", "permit-pty"],
  });
  expect(read.validBefore - read.validAfter).toBe(600n);
  expect(expireTime?.getTime()).toBe(Number(read.validBefore) * 1_000);
  const other = await (await pitwall.as("ada", 1)).vms.issueSshCertificate({ vm: "team/web", publicKey });
  expect(readSshCertificate(blobOf(other.certificate)).authority).toBe(read.authority);

  expect(await gateway.authorizeSsh({ sshCertificate: blobOf(certificate), vm: vmId })).toMatchObject({ subject: "ada", vmId });
  expect(await gateway.authorizeSsh({ sshCertificate: blobOf(certificate), vm: "" })).toMatchObject({ subject: "ada", vmId: "" });
  expect(await open(blobOf(certificate))).toMatchObject({ vmId });
});

it("has an entry in the audit log", async () => {
  await issued();
  const [entry] = await pitwall.query(
    "select actor, object, detail->>'name' as name from audit_entry where action = 'VmService/IssueSshCertificate' order by seq desc limit 1",
  );
  expect(entry).toEqual({ actor: "ada", object: `vm/${vmId}`, name: "web" });
});

it("opens no other VM of its user", async () => {
  const certificate = await issued();
  const { vm } = await ada.vms.getVm({ vm: "team/other" });
  expect(await refusalOf(gateway.authorizeSsh({ sshCertificate: certificate, vm: vm?.id ?? "" }))).toMatch(/^NOT_FOUND /);
  expect(await refusalOf(open(certificate, { vm: vm?.id ?? "" }))).toMatch(/^NOT_FOUND /);
});

it("opens nothing once its user has no role any more, however good it is", async () => {
  await ada.projects.setProjectMember({ project: "team", subject: "bob", role: ProjectRole.PROJECT_ROLE_MEMBER });
  const bob = await pitwall.as("bob");
  const certificate = await issued(bob);
  expect(await open(certificate)).toMatchObject({ vmId });
  await ada.projects.removeProjectMember({ project: "team", subject: "bob" });
  expect(await refusalOf(open(certificate))).toMatch(/^NOT_FOUND /);
});

it("keeps what is open open until its user has no role any more", async () => {
  await ada.projects.setProjectMember({ project: "team", subject: "dan", role: ProjectRole.PROJECT_ROLE_MEMBER });
  const certificate = await issued(await pitwall.as("dan"));
  const loginTime = new Date();
  const tunnels = [
    { caller: { credential: { $case: "sshCertificate" as const, value: { certificate, loginTime } } }, vm: vmId, method: "" },
  ];
  expect(await gateway.checkTunnels({ tunnels })).toMatchObject({ lost: [], unknown: [] });
  await ada.projects.removeProjectMember({ project: "team", subject: "dan" });
  expect(await gateway.checkTunnels({ tunnels })).toMatchObject({ lost: [0], unknown: [] });
});

it("is not made for viewers, for strangers, or for keys of another kind", async () => {
  await ada.projects.setProjectMember({ project: "team", subject: "eve", role: ProjectRole.PROJECT_ROLE_VIEWER });
  expect(await refusalOf(issued(await pitwall.as("eve")))).toMatch(/^PERMISSION_DENIED /);
  expect(await refusalOf(issued(await pitwall.as("mallory")))).toMatch(/^NOT_FOUND /);
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ format: "jwk" });
  const mpint = (part = ""): Buffer => {
    const value = Buffer.concat([Buffer.from([0]), Buffer.from(part, "base64url")]);
    return Buffer.concat([Buffer.from([0, 0, value.length >> 8, value.length & 255]), value]);
  };
  const line = `ssh-rsa ${Buffer.concat([Buffer.from([0, 0, 0, 7]), Buffer.from("ssh-rsa"), mpint(rsa.e), mpint(rsa.n)]).toString("base64")}`;
  for (const wrong of [line, "ssh-ed25519 AAAA", ""])
    expect(await refusalOf(ada.vms.issueSshCertificate({ vm: "team/web", publicKey: wrong }))).toMatch(/^INVALID_ARGUMENT /);
});

it("lets a login go on that was in time, and none that was not", async () => {
  const certificate = await issued();
  expect(await open(certificate, { agoMs: 20_000 })).toMatchObject({ vmId }); // between clocks that differ by less than 30 s
  for (const agoMs of [2 * minuteMs, -11 * minuteMs, -2 * minuteMs, 25 * 60 * minuteMs])
    expect(await refusalOf(open(certificate, { agoMs })), `${agoMs} ms ago`).toMatch(/^(?:UNAUTHENTICATED|INVALID_ARGUMENT) /);
});

it("is not believed when somebody else has made it", async () => {
  const nowSeconds = BigInt(Math.floor(Date.now() / 1_000));
  const forged = issueSshCertificate(generateKeyPairSync("ed25519").privateKey, {
    ...{ publicKey, nonce: randomBytes(32), serial: 1n, keyId: "ada", principals: [vmId], extensions: [] },
    ...{ validAfter: nowSeconds - 10n, validBefore: nowSeconds + 600n },
  });
  expect(await refusalOf(gateway.authorizeSsh({ sshCertificate: blobOf(forged), vm: vmId }))).toMatch(/^UNAUTHENTICATED /);
  expect(await refusalOf(open(blobOf(forged)))).toMatch(/^UNAUTHENTICATED /);
  expect(await refusalOf(open(Buffer.from("nothing of the kind")))).toMatch(/^INVALID_ARGUMENT /);
});
