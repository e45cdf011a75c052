// Ways into VMs in the audit log: their begin before they are open, their end with what went through, as gateways tell it; and watches that
// end with their watcher's role.
import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { readSshCertificate, sshLineOf } from "@pitwall/auth";
import {
  SshWay,
  type AccessServiceDefinition,
  type Caller,
  type OpenTunnelRequest,
  type OpenTunnelResponse,
  type TunnelTarget,
} from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import { Phase } from "@pitwall/proto/pitwall/v1/vm.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway } from "./support/spoken-node.ts";

const parts = new AsyncDisposableStack();
const ssh: TunnelTarget["target"] = { $case: "ssh", value: { sessionKey: "", keptKeys: undefined, hostCertificate: "" } };
let pitwall: TestControllers;
let ada: Calls;
let gateway: Client<typeof AccessServiceDefinition>;
let stranger: Client<typeof AccessServiceDefinition>;

beforeAll(async () => {
  pitwall = parts.use(await startControllers(2));
  parts.use(await startNode(pitwall, { name: "one" }));
  ada = await pitwall.as("ada");
  await ada.projects.createProject({ name: "team" });
  await ada.vms.createVm({ project: "team", name: "web", spec: { image: pitwall.image } });
  await ada.vms.waitVm({ vm: "team/web" });
  const join = async (name: string): Promise<typeof gateway> =>
    parts.use(await joinGateway(pitwall, await pitwall.as(admin), name)).access(pitwall.controllers[0]?.link ?? "");
  [gateway, stranger] = [await join("door"), await join("back-door")];
}, 120_000);
afterAll(() => parts.disposeAsync());

interface Opening extends Partial<Pick<OpenTunnelRequest, "sshWay" | "sshUser">> {
  readonly sessionId: string;
  readonly caller?: Caller;
  readonly target?: TunnelTarget["target"];
  readonly by?: Client<typeof AccessServiceDefinition>;
}

async function open({ target = ssh, by = gateway, caller, ...request }: Opening): Promise<OpenTunnelResponse> {
  return by.openTunnel({
    ...request,
    caller: caller ?? { credential: { $case: "bearerToken", value: await pitwall.token("ada") } },
    vm: caller ? await vmId() : "team/web",
    target: { target },
    token: randomBytes(32).toString("base64url"),
    gatewayAddress: "127.0.0.1:1",
  });
}

const vmId = async (): Promise<string> => (await ada.vms.getVm({ vm: "team/web" })).vm?.id ?? "";

const entriesOf = async (session: string): Promise<Record<string, unknown>[]> =>
  pitwall.query(
    "select actor, action, object, project_id is not null as in_project, detail from audit_entry where detail->>'session' = $1 order by seq",
    [session],
  );
const openRows = async (): Promise<unknown> => (await pitwall.query("select id from access_session")).length;

describe("a way into a VM", () => {
  it("has an entry of its end, with what went through, once however often that is said", async () => {
    const sessionId = randomUUID();
    expect(await open({ sessionId })).toMatchObject({ sessionId });
    const ended = [{ sessionId, toVmBytes: 1_000n, fromVmBytes: 5_000_000_000n, duration: { seconds: 61n, nanos: 500_000_000 } }];
    await gateway.endSessions({ ended });
    await gateway.endSessions({ ended });
    const both = { actor: "ada", object: expect.stringMatching(/^vm\//) as string, in_project: true };
    expect(await entriesOf(sessionId)).toEqual([
      { ...both, action: "AccessService/OpenTunnel", detail: { name: "web", target: "ssh", session: sessionId } },
      {
        ...both,
        action: "AccessService/EndSessions",
        detail: { name: "web", target: "ssh", session: sessionId, toVmBytes: 1_000, fromVmBytes: 5_000_000_000, seconds: 61.5 },
      },
    ]);
    expect(await openRows()).toBe(0);
  });

  it("has entries of the way, the key and the certificate", async () => {
    const publicKey = sshLineOf(generateKeyPairSync("ed25519").publicKey);
    const { key } = await ada.profile.addSshKey({ publicKey });
    const issued = (await ada.vms.issueSshCertificate({ vm: "team/web", publicKey })).certificate;
    const certificate = Buffer.from(issued.split(" ")[1] ?? "", "base64");
    const ways = {
      "by a key": { sshWay: SshWay.SSH_WAY_JUMP, caller: { credential: { $case: "sshPublicKey", value: publicKey } } },
      "by a certificate": {
        ...{ sshWay: SshWay.SSH_WAY_DOOR, sshUser: "dev" },
        caller: { credential: { $case: "sshCertificate", value: { certificate, loginTime: new Date() } } },
      },
    } as const;
    const details: Record<string, unknown[]> = {};
    for (const [name, way] of Object.entries(ways)) {
      const sessionId = randomUUID();
      await open({ sessionId, ...way });
      await gateway.endSessions({ ended: [{ sessionId }] });
      details[name] = (await entriesOf(sessionId)).map(({ detail }) => detail);
    }
    const ofKey = { name: "web", target: "ssh", key: key?.fingerprint, way: "jump" };
    const { serial } = readSshCertificate(certificate);
    const ofCertificate = { ...ofKey, way: "door", user: "dev", certificate: String(serial) };
    expect(details).toMatchObject({ "by a key": [ofKey, ofKey], "by a certificate": [ofCertificate, ofCertificate] });
    expect(await refusalOf(open({ sessionId: randomUUID(), sshUser: "two words" }))).toBe("INVALID_ARGUMENT ssh_user: is no user's name");
  });

  it("that is asked for again, since the answer was lost, is one", async () => {
    const sessionId = randomUUID();
    await open({ sessionId });
    await open({ sessionId });
    expect(await entriesOf(sessionId)).toHaveLength(1);
    await gateway.endSessions({ ended: [{ sessionId }] });
  });

  it("is ended by no other gateway, nor has another's id", async () => {
    const sessionId = randomUUID();
    await open({ sessionId });
    await stranger.endSessions({ ended: [{ sessionId, toVmBytes: 1n }], started: true });
    expect(await entriesOf(sessionId)).toHaveLength(1);
    expect(await refusalOf(open({ sessionId, by: stranger }))).toBe("ALREADY_EXISTS session_id: is another session's");
    await gateway.endSessions({ ended: [{ sessionId }] });
    expect(await entriesOf(sessionId)).toHaveLength(2);
  });

  it("that its gateway has lost is over when the gateway starts again", async () => {
    const lost = [randomUUID(), randomUUID()];
    for (const sessionId of lost) await open({ sessionId });
    await gateway.endSessions({ started: true });
    for (const sessionId of lost)
      expect((await entriesOf(sessionId)).at(-1)).toMatchObject({
        action: "AccessService/EndSessions",
        detail: { lost: "the gateway ended" },
      });
    expect(await openRows()).toBe(0);
  });

  it("to a port has neither entry", async () => {
    const sessionId = randomUUID();
    expect(await open({ sessionId, target: { $case: "tcp", value: { port: 80 } } })).toMatchObject({ sessionId: "" });
    await gateway.endSessions({ ended: [{ sessionId, toVmBytes: 7n }] });
    expect(await entriesOf(sessionId)).toEqual([]);
  });

  it("without an entry of its begin there is none", async () => {
    await pitwall.query("revoke insert on audit_entry from pitwall_runtime");
    try {
      expect(await refusalOf(open({ sessionId: randomUUID() }))).toMatch(/^INTERNAL/);
    } finally {
      await pitwall.query("grant insert on audit_entry to pitwall_runtime");
    }
    expect(await openRows()).toBe(0);
  });

  it("is refused by what is wrong with the request", async () => {
    expect(await refusalOf(open({ sessionId: "mine" }))).toBe("INVALID_ARGUMENT session_id: must be a UUID in lower case");
    expect(await refusalOf(gateway.endSessions({ ended: [{ sessionId: "mine" }] }))).toBe(
      "INVALID_ARGUMENT ended.session_id: must be a UUID in lower case",
    );
    const many = Array.from({ length: 1_001 }, () => ({ sessionId: randomUUID() }));
    expect(await refusalOf(gateway.endSessions({ ended: many }))).toBe("INVALID_ARGUMENT ended: holds 1001 sessions; the limit is 1000");
  });
});

describe("a tunnel that is open", () => {
  const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpn0LK8uQ5HgVmGTGjHqwIbZbWVmrGGGrpzq1x7iTRs";
  const { PROJECT_ROLE_VIEWER: viewer, PROJECT_ROLE_MEMBER: member } = ProjectRole;
  const role = (as: ProjectRole): Promise<unknown> => ada.projects.setProjectMember({ project: "team", subject: "bob", role: as });
  const bearer = (value: string): Caller => ({ credential: { $case: "bearerToken", value } });

  it("is lost with the role, the key or the token that it was opened with, and with nothing else", async () => {
    await role(member);
    const bob = await pitwall.as("bob");
    await bob.profile.addSshKey({ publicKey });
    const { token, secret } = await bob.projects.createApiToken({ project: "team", role: member });
    const { vmId: vm } = await open({ sessionId: randomUUID() });
    const callers = {
      ada: bearer(await pitwall.token("ada")),
      bob: bearer(await pitwall.token("bob")),
      "bob's token, expired since": bearer(await pitwall.token("bob", "-1h")),
      "bob's API token": bearer(secret),
      "nobody, whom it is invalid to ask for": { credential: undefined },
      "bob's key": { credential: { $case: "sshPublicKey" as const, value: publicKey } },
    };
    const lost = async (method = ""): Promise<string[]> => {
      const tunnels = Object.values(callers).map((caller) => ({ caller, vm, method }));
      const answer = await gateway.checkTunnels({ tunnels });
      return answer.lost.map((at) => Object.keys(callers)[at] ?? "");
    };
    expect(await lost()).toEqual([]);
    await ada.projects.revokeApiToken({ project: "team", id: token?.id ?? "" });
    expect(await lost()).toEqual(["bob's API token"]);
    await role(viewer);
    const ofBob = Object.keys(callers).filter((name) => name.startsWith("bob"));
    expect(await lost()).toEqual(ofBob);
    expect(await lost("GuestService/ReadLogs")).toEqual(["bob's API token", "bob's key"]); // a viewer may
    await role(member);
    const [key] = (await bob.profile.listSshKeys({})).keys;
    await bob.profile.deleteSshKey({ fingerprint: key?.fingerprint ?? "" });
    expect(await lost()).toEqual(["bob's API token", "bob's key"]);
    await ada.projects.removeProjectMember({ project: "team", subject: "bob" });
    expect(await lost()).toEqual(ofBob);
  });

  it("of which nothing can be found out says nothing of the others", async () => {
    await role(viewer);
    const { vmId: vm } = await open({ sessionId: randomUUID() });
    const [ofAda, ofBob] = await Promise.all(["ada", "bob"].map(async (who) => ({ caller: bearer(await pitwall.token(who)), vm })));
    const payload = Buffer.from(JSON.stringify({ sub: "a\u0000b" })).toString("base64url"); // no text of the database holds a NUL
    const odd = { caller: bearer(`e30.${payload}.AA`), vm };
    const tunnels = Array.from({ length: 100 }, (_, at) => (at === 40 ? odd : ((at === 70 ? ofBob : ofAda) ?? {})));
    expect(await gateway.checkTunnels({ tunnels })).toMatchObject({ lost: [70], unknown: [40] });
    expect(await refusalOf(gateway.checkTunnels({ tunnels: [odd] }))).toMatch(/^UNAVAILABLE the database /);
  });

  it("is not asked for with more than 500 others", async () => {
    const many = Array.from({ length: 501 }, () => ({ caller: bearer("x"), vm: "x", method: "" }));
    expect(await refusalOf(gateway.checkTunnels({ tunnels: many }))).toBe("INVALID_ARGUMENT tunnels: holds 501; the limit is 500");
  });
});

describe("a person who is removed from a project", () => {
  /** Begins to watch as bob, on the second controller; how it ends. */
  async function watching(request: { project?: string; vm?: string }): Promise<{ readonly ended: Promise<string> }> {
    const bob = await pitwall.as("bob", 1);
    const synced = Promise.withResolvers<void>();
    const ended = refusalOf(
      (async () => {
        for await (const message of bob.vms.watchVms(request)) if (message.synced) synced.resolve();
      })(),
    );
    await Promise.race([
      synced.promise,
      ended.then((how) => {
        throw new Error(`the watch ended: ${how}`);
      }),
    ]);
    return { ended };
  }

  it("has all watches and waits of it cut within seconds, on every controller, and keeps those of others", async () => {
    await ada.projects.setProjectMember({ project: "team", subject: "bob", role: ProjectRole.PROJECT_ROLE_VIEWER });
    const bob = await pitwall.as("bob", 1);
    const [ofProject, ofVm, ofAll, ofOwn] = [
      await watching({ project: "team" }),
      await watching({ vm: "team/web" }),
      await watching({ project: "-" }),
      await watching({}),
    ];
    let isOver = false;
    void ofOwn.ended.then(() => (isOver = true));
    const waiting = refusalOf(bob.vms.waitVm({ vm: "team/web", phases: [Phase.PHASE_STOPPING] }));
    const since = performance.now();
    await ada.projects.removeProjectMember({ project: "team", subject: "bob" });
    expect(await Promise.all([ofProject.ended, ofVm.ended, waiting, ofAll.ended])).toEqual([
      'NOT_FOUND there is no project "team"',
      'NOT_FOUND there is no VM "team/web"',
      'NOT_FOUND there is no VM "team/web"',
      "OUT_OF_RANGE you no longer have a role in one of your projects; begin anew without a resume_token",
    ]);
    expect(performance.now() - since).toBeLessThan(5_000);
    expect(isOver).toBe(false);
  });
});
