// Recordings as gateways make them and owners read them; projects that demand them; open sessions, listed and ended.
import { randomBytes, randomUUID } from "node:crypto";
import { SshWay, type AccessServiceDefinition, type OpenTunnelResponse, type TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import { RecordingState, type Recording } from "@pitwall/proto/pitwall/v1/session.ts";
import type { Client } from "nice-grpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway } from "./support/spoken-node.ts";

type Gateway = Client<typeof AccessServiceDefinition>;

const parts = new AsyncDisposableStack();
const project = "team";
const mostBytes = 4_096;
let pitwall: TestControllers;
let ada: Calls;
let bob: Calls;
let gateway: Gateway;
let stranger: Gateway;

beforeAll(async () => {
  pitwall = parts.use(await startControllers(2, { PITWALL_RECORDING_LIMIT: String(mostBytes), PITWALL_RECORDINGS_PER_PROJECT: "64Ki" }));
  parts.use(await startNode(pitwall, { name: "one" }));
  [ada, bob] = [await pitwall.as("ada"), await pitwall.as("bob")];
  await ada.projects.createProject({ name: project });
  await ada.projects.setProjectMember({ project, subject: "bob", role: ProjectRole.PROJECT_ROLE_MEMBER });
  await ada.vms.createVm({ project, name: "web", spec: { image: pitwall.image } });
  await ada.vms.waitVm({ vm: "team/web" });
  const join = async (name: string): Promise<Gateway> =>
    parts.use(await joinGateway(pitwall, await pitwall.as(admin), name)).access(pitwall.controllers[0]?.link ?? "");
  [gateway, stranger] = [await join("door"), await join("back-door")];
}, 120_000);
afterAll(() => parts.disposeAsync());

const ssh: TunnelTarget["target"] = { $case: "ssh", value: { sessionKey: "", keptKeys: undefined, hostCertificate: "" } };

interface Opening {
  readonly sessionId?: string;
  readonly subject?: string;
  readonly sshWay?: SshWay;
  readonly target?: TunnelTarget["target"];
}

async function open({
  sessionId = randomUUID(),
  subject = "ada",
  sshWay = SshWay.SSH_WAY_DOOR,
  target = ssh,
}: Opening = {}): Promise<OpenTunnelResponse> {
  return gateway.openTunnel({
    caller: { credential: { $case: "bearerToken", value: await pitwall.token(subject) } },
    ...{ vm: "team/web", target: { target }, sshWay, sshUser: "root", sessionId },
    ...{ token: randomBytes(32).toString("base64url"), gatewayAddress: "127.0.0.1:1" },
  });
}

/** A recording that is live. */
async function recording(command = ""): Promise<{ readonly recordingId: string; readonly sessionId: string }> {
  const { sessionId } = await open();
  const recordingId = randomUUID();
  await gateway.openRecording({ recordingId, sessionId, command, hasTerminal: command === "" });
  return { recordingId, sessionId };
}

async function bytesOf(id: string, calls = ada, follow = false): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const { data } of calls.sessions.readRecording({ project, id, follow })) pieces.push(data);
  return Buffer.concat(pieces).toString();
}
const get = async (id: string): Promise<Recording | undefined> => (await ada.sessions.getRecording({ project, id })).recording;
const demand = (recordSessions: boolean): Promise<unknown> =>
  ada.projects.updateProject({ project, value: { recordSessions }, updateMask: ["record_sessions"] });

describe("a recording", () => {
  it("holds its parts in their order, each once however often it is sent, and says how it ended", async () => {
    const { recordingId, sessionId } = await recording();
    await gateway.openRecording({ recordingId, sessionId, hasTerminal: true });
    for (const [part, text] of ["one\n", "two\n", "three\n"].entries()) {
      await gateway.appendRecording({ recordingId, part, data: Buffer.from(text) });
      await gateway.appendRecording({ recordingId, part, data: Buffer.from("another\n") });
    }
    await gateway.appendRecording({ recordingId, part: 3 });
    expect(await get(recordingId)).toMatchObject({
      ...{ sessionId, vm: "web", actor: "ada", subject: "ada", user: "root", command: "", hasTerminal: true },
      ...{ state: RecordingState.RECORDING_STATE_LIVE, sizeBytes: 14n },
    });
    await gateway.closeRecording({ recordingId, end: "exit code 3" });
    await gateway.closeRecording({ recordingId, end: "something else" });
    expect(await get(recordingId)).toMatchObject({ state: RecordingState.RECORDING_STATE_ENDED, end: "exit code 3" });
    expect(await bytesOf(recordingId)).toBe("one\ntwo\nthree\n");
    expect(await refusalOf(gateway.appendRecording({ recordingId, part: 3, data: Buffer.from("late\n") }))).toBe(
      "FAILED_PRECONDITION the recording is over",
    );
  });

  it("is its gateway's alone, and of a session of its own", async () => {
    const { recordingId, sessionId } = await recording();
    const gone = "NOT_FOUND there is no such recording of this gateway's";
    expect(await refusalOf(stranger.appendRecording({ recordingId, part: 0, data: Buffer.from("x\n") }))).toBe(gone);
    await stranger.closeRecording({ recordingId, end: "mine" });
    expect(await get(recordingId)).toMatchObject({ state: RecordingState.RECORDING_STATE_LIVE });
    expect(await refusalOf(stranger.openRecording({ recordingId: randomUUID(), sessionId }))).toBe(
      "NOT_FOUND there is no such session of this gateway's",
    );
    const { sessionId: other } = await open();
    expect(await refusalOf(gateway.openRecording({ recordingId, sessionId: other }))).toBe(
      "ALREADY_EXISTS recording_id: is another recording's",
    );
    await gateway.closeRecording({ recordingId });
  });

  it("takes no part out of order, none that is too long, and no more than it may hold", async () => {
    const { recordingId } = await recording("yes");
    expect(await refusalOf(gateway.appendRecording({ recordingId, part: 1, data: Buffer.from("x\n") }))).toBe(
      "INVALID_ARGUMENT part: is 1; the next is 0",
    );
    const long = Buffer.alloc(512 * 1024 + 1);
    expect(await refusalOf(gateway.appendRecording({ recordingId, part: 0, data: long }))).toBe(
      "INVALID_ARGUMENT data: holds 524289 bytes; the limit is 524288",
    );
    await gateway.appendRecording({ recordingId, part: 0, data: Buffer.alloc(mostBytes, "y") });
    expect(await refusalOf(gateway.appendRecording({ recordingId, part: 1, data: Buffer.from("y") }))).toBe(
      `RESOURCE_EXHAUSTED the session's recording holds ${mostBytes} bytes, the most that one may`,
    );
    await gateway.closeRecording({ recordingId });
  });

  it("is cut when the process of its gateway is lost that carried it, when its gateway starts again, and at once for whoever looks when its gateway is silent", async () => {
    const [lost, silent] = [await recording(), await recording()];
    await pitwall.query("update recording set update_time = now() - interval '61 seconds' where id = $1", [silent.recordingId]);
    expect(await get(silent.recordingId)).toMatchObject({ state: RecordingState.RECORDING_STATE_CUT, end: "the gateway was lost" });
    expect(await bytesOf(silent.recordingId, ada, true)).toBe(""); // and who follows it is not kept waiting
    const carried = await recording();
    await gateway.endSessions({ ended: [{ sessionId: carried.sessionId, lost: true }] });
    expect(await get(carried.recordingId)).toMatchObject({ state: RecordingState.RECORDING_STATE_CUT, end: "the gateway ended" });
    expect(await get(lost.recordingId)).toMatchObject({ state: RecordingState.RECORDING_STATE_LIVE });
    await gateway.endSessions({ started: true });
    expect(await get(lost.recordingId)).toMatchObject({ state: RecordingState.RECORDING_STATE_CUT, end: "the gateway ended" });
  });

  it("is followed as it comes, from any controller, until it ends or the reader's role does", async () => {
    const { recordingId } = await recording();
    const followed = async (): Promise<{ readonly got: string[]; readonly ended: Promise<string> }> => {
      const cat = await pitwall.as("cat", 1);
      const got: string[] = [];
      const read = async (): Promise<void> => {
        for await (const { data } of cat.sessions.readRecording({ project, id: recordingId, follow: true }))
          got.push(Buffer.from(data).toString());
      };
      return { got, ended: refusalOf(read()) };
    };
    const { PROJECT_ROLE_OWNER: owner, PROJECT_ROLE_MEMBER: member } = ProjectRole;
    await ada.projects.setProjectMember({ project, subject: "cat", role: owner });
    const first = await followed();
    await gateway.appendRecording({ recordingId, part: 0, data: Buffer.from("one\n") });
    await expect.poll(() => first.got).toEqual(["one\n"]);
    await ada.projects.setProjectMember({ project, subject: "cat", role: member });
    expect(await first.ended).toMatch(/^PERMISSION_DENIED your role for the project team is member; this needs owner/);
    await ada.projects.setProjectMember({ project, subject: "cat", role: owner });
    const second = await followed();
    await gateway.appendRecording({ recordingId, part: 1, data: Buffer.from("two\n") });
    await gateway.closeRecording({ recordingId, end: "exit code 0" });
    expect(await second.ended).toBe("OK");
    expect(second.got.join("")).toBe("one\ntwo\n");
  });

  it("has an entry in the audit log of everybody who reads it, and of who deletes it", async () => {
    const { recordingId: id } = await recording();
    expect(await refusalOf(ada.sessions.deleteRecording({ project, id }))).toBe(
      `FAILED_PRECONDITION the recording ${id} is still being made: end the session first`,
    );
    await gateway.closeRecording({ recordingId: id });
    await bytesOf(id);
    await ada.sessions.deleteRecording({ project, id });
    expect(await refusalOf(ada.sessions.getRecording({ project, id }))).toBe(`NOT_FOUND the project team has no recording "${id}"`);
    expect(await pitwall.query("select part from recording_part where recording_id = $1", [id])).toEqual([]);
    const entries = await pitwall.query("select actor, action from audit_entry where detail->>'recording' = $1 order by seq", [id]);
    expect(entries).toEqual([
      { actor: "ada", action: "SessionService/ReadRecording" },
      { actor: "ada", action: "SessionService/DeleteRecording" },
    ]);
  });

  it("is listed, newest first, page by page, and by its VM", async () => {
    const ids: string[] = [];
    for (const command of ["a", "b", "c"]) ids.unshift((await recording(command)).recordingId);
    const first = await ada.sessions.listRecordings({ project, pageSize: 2 });
    const second = await ada.sessions.listRecordings({ project, pageSize: 1, pageToken: first.nextPageToken });
    expect([...first.recordings, ...second.recordings].map(({ id }) => id)).toEqual(ids);
    const ofWeb = await ada.sessions.listRecordings({ project, vm: "web" });
    expect(ofWeb.recordings.slice(0, 3).map(({ id }) => id)).toEqual(ids);
    expect((await ada.sessions.listRecordings({ project, vm: "other" })).recordings).toEqual([]);
    for (const recordingId of ids) await gateway.closeRecording({ recordingId });
  });

  it("has no place in a project that has too many", async () => {
    const { sessionId } = await open();
    const begin = (): Promise<string> => refusalOf(gateway.openRecording({ recordingId: randomUUID(), sessionId }));
    let begun = 0;
    let last = "OK";
    for (; last === "OK" && begun < 100; begun++) last = await begin();
    expect(last).toBe("RESOURCE_EXHAUSTED the project has no room for more recordings: an owner can delete some");
    expect(begun).toBeGreaterThan(20); // of 64, with those of the tests before
    await pitwall.query("delete from recording");
    expect(await begin()).toBe("OK");
  });
});

describe("where a project demands that sessions are recorded", () => {
  it("the door records, and ways that it cannot read are refused with the way that works", async () => {
    await demand(true);
    expect((await ada.projects.getProject({ project })).project?.recordSessions).toBe(true);
    expect(await open()).toMatchObject({ record: true });
    const refusal =
      "FAILED_PRECONDITION sessions in the VM web are recorded, which this way does not allow: log in as ssh web@GATEWAY, or with pitwall ssh";
    const sessionId = randomUUID();
    expect(await refusalOf(open({ sshWay: SshWay.SSH_WAY_JUMP, sessionId }))).toBe(refusal);
    expect(await refusalOf(open({ sshWay: SshWay.SSH_WAY_UNSPECIFIED, sessionId }))).toBe(refusal); // a gateway of the version before
    expect(await refusalOf(open({ sessionId: "" }))).toBe(refusal);
    expect(await refusalOf(open({ target: { $case: "tcp", value: { port: 22 } } }))).toBe(refusal);
    expect(await open({ target: { $case: "tcp", value: { port: 80 } } })).toMatchObject({ record: false });
    expect(await pitwall.query("select from access_session where id = $1", [sessionId])).toEqual([]);
    await demand(false);
    expect(await open()).toMatchObject({ record: false });
  });

  it("what is open unrecorded is lost, and nothing else", async () => {
    const { vmId: vm } = await open();
    const caller = { credential: { $case: "bearerToken" as const, value: await pitwall.token("ada") } };
    const tunnels = [true, false].map((unrecordedSsh) => ({ caller, vm, method: "", unrecordedSsh }));
    expect((await gateway.checkTunnels({ tunnels })).lost).toEqual([]);
    await demand(true);
    expect((await gateway.checkTunnels({ tunnels })).lost).toEqual([0]);
    await demand(false);
  });

  it("that is for owners to say, and has an entry", async () => {
    const ask = bob.projects.updateProject({ project, value: { recordSessions: true }, updateMask: ["record_sessions"] });
    expect(await refusalOf(ask)).toBe("PERMISSION_DENIED record_sessions: this is for owners of the project team");
    const [entry] = await pitwall.query(
      "select detail from audit_entry where action = 'ProjectService/UpdateProject' and detail ? 'recordSessions' order by seq limit 1",
    );
    expect(entry).toEqual({ detail: { recordSessions: true } });
  });
});

describe("open sessions", () => {
  it("are listed with their recordings, and are ended by whose they are and by owners", async () => {
    await gateway.endSessions({ started: true });
    const [ofAda, ofBob] = [randomUUID(), randomUUID()];
    await open({ sessionId: ofAda });
    await open({ sessionId: ofBob, subject: "bob", sshWay: SshWay.SSH_WAY_JUMP });
    const recordingId = randomUUID();
    await gateway.openRecording({ recordingId, sessionId: ofAda });
    const { sessions } = await bob.sessions.listSessions({ project });
    expect(Object.fromEntries(sessions.map((session) => [session.id, session]))).toMatchObject({
      [ofAda]: { vm: "web", actor: "ada", way: "door", user: "root", recordingIds: [recordingId] },
      [ofBob]: { vm: "web", actor: "bob", way: "jump", recordingIds: [] },
    });
    expect(await refusalOf(bob.sessions.endSession({ project, id: ofAda }))).toBe(
      "PERMISSION_DENIED the session is ada's: owners of the project end those of others",
    );
    expect(await refusalOf(bob.sessions.endSession({ project, id: recordingId }))).toBe(
      `NOT_FOUND the project team has no open session "${recordingId}"`,
    );
    await bob.sessions.endSession({ project, id: ofBob });
    await ada.sessions.endSession({ project, id: ofAda });
    expect((await gateway.checkTunnels({})).endedSessions.toSorted()).toEqual([ofAda, ofBob].toSorted());
    expect((await stranger.checkTunnels({})).endedSessions).toEqual([]);
    await gateway.endSessions({ ended: [{ sessionId: ofAda }, { sessionId: ofBob }] });
    expect((await gateway.checkTunnels({})).endedSessions).toEqual([]);
    const entries = await pitwall.query(
      "select actor, detail->>'session' as session, detail->>'of' as of from audit_entry where action = 'SessionService/EndSession' order by seq",
    );
    expect(entries).toEqual([
      { actor: "bob", session: ofBob, of: "bob" },
      { actor: "ada", session: ofAda, of: "ada" },
    ]);
  });
});
