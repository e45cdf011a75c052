// What one may not see is as what is not there, also by what it costs: the same questions to the database, so that no clock tells them apart.
import { randomBytes, randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { openIdentity } from "@pitwall/enroll";
import { AccessServiceDefinition } from "@pitwall/proto/pitwall/v1/access.ts";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import { silentLog } from "@pitwall/runtime";
import { ChannelCredentials, createChannel, createClient, type Channel } from "nice-grpc";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { admin, startControllers, type TestControllers } from "./support/controllers.ts";
import { callMethod, everyMethod, type EveryMethod } from "./support/every-method.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

const parts = new AsyncDisposableStack();
/** The one that controllers in this process ask by. */
const driver = createRequire(import.meta.resolve("@mikro-orm/postgresql"))("pg") as {
  Client: { prototype: { query(...args: unknown[]): unknown } };
};
const asked = vi.spyOn(driver.Client.prototype, "query");
const headers = new Map<string, string>();
let pitwall: TestControllers;
let gateway: Channel;
/** Names and ids of what is theirs, by kind. */
const theirs = { vm: "", project: "", token: "", session: randomUUID(), recording: randomUUID(), fingerprint: "" };
const missing = randomUUID();

beforeAll(async () => {
  pitwall = parts.use(await startControllers(1, { PITWALL_READS_PER_SECOND: "0", PITWALL_CHANGES_PER_SECOND: "0" }));
  parts.use(await startNode(pitwall, { name: "one" }));
  const [ada, eve] = [await pitwall.as("ada"), await pitwall.as("eve")];
  for (const subject of ["ada", "eve"]) headers.set(subject, `Bearer ${await pitwall.token(subject)}`);
  await ada.projects.createProject({ name: "ours" });
  theirs.project = (await eve.projects.createProject({ name: "theirs" })).project?.id ?? "";
  theirs.vm = (await eve.vms.createVm({ project: "theirs", name: "web", spec: { image: pitwall.image } })).vm?.id ?? "";
  await eve.vms.waitVm({ vm: theirs.vm });
  const key = Buffer.concat([Buffer.from("0000000b7373682d6564323535313900000020", "hex"), Buffer.alloc(32, 3)]);
  theirs.fingerprint = (await eve.profile.addSshKey({ publicKey: `ssh-ed25519 ${key.toString("base64")}` })).key?.fingerprint ?? "";
  theirs.token = (await eve.projects.createApiToken({ project: "theirs", role: ProjectRole.PROJECT_ROLE_VIEWER })).token?.id ?? "";
  const secret = { $case: "password", value: "p" } as const;
  await eve.projects.setRegistryCredential({ project: "theirs", registry: "foreign.example", username: "u", secret });
  const made = await ada.projects.createApiToken({ project: "ours", role: ProjectRole.PROJECT_ROLE_OWNER });
  headers.set("ada's token", `Bearer ${made.secret}`);
  await pitwall.query(
    `insert into access_session (id, gateway_id, vm_id, project_id, actor, subject, detail) values ($1, $2, $3, $4, 'eve', 'eve', '{}')`,
    [theirs.session, randomUUID(), theirs.vm, theirs.project],
  );
  await pitwall.query(
    `insert into recording (id, session_id, gateway_id, project_id, vm_id, vm_name, actor, subject, ssh_user, command, has_terminal, state)
     values ($1, $2, $3, $4, $5, 'web', 'eve', 'eve', 'root', '', true, 'ended')`,
    [theirs.recording, theirs.session, randomUUID(), theirs.project, theirs.vm],
  );
  const root = await pitwall.as(admin);
  const { join: text } = await root.nodes.createJoinToken({ role: JoinRole.JOIN_ROLE_GATEWAY, name: "gateway" });
  const dir = join(pitwall.dir, "gateway");
  const identity = parts.use(await openIdentity({ dir, join: text, name: "gateway", serverNames: ["127.0.0.1"], log: silentLog }));
  const { key: own, cert, ca } = identity.tls();
  const credentials = ChannelCredentials.createSsl(Buffer.from(ca), Buffer.from(own), Buffer.from(cert));
  gateway = parts.adopt(createChannel(pitwall.controllers[0]?.link ?? "", credentials), (channel) => channel.close());
}, 120_000);
afterAll(async () => {
  asked.mockRestore();
  await parts.disposeAsync();
});

/** Without its values. */
const plain = (sql: string): string =>
  sql
    .replaceAll(/'[^']*'/g, "X")
    .replaceAll(/\s+/g, " ")
    .trim();

function questionOf([query]: readonly unknown[]): string {
  const text = typeof query === "object" && query !== null && "text" in query ? query.text : query;
  return typeof text === "string" ? plain(text) : "";
}

const runs = 3;
const mostTries = 5;

interface Cost {
  readonly outcome: string;
  readonly questions: readonly string[];
}

/** What it asks of the database, and how it ends. What is not asked in each of several runs, something else asks. */
async function costOf(work: () => Promise<void>): Promise<Cost> {
  let outcome = "";
  const seen: Map<string, number>[] = [];
  for (let run = 0; run < runs; run++) {
    asked.mockClear();
    outcome = await refusalOf(work());
    const counts = new Map<string, number>();
    for (const call of asked.mock.calls) counts.set(questionOf(call), (counts.get(questionOf(call)) ?? 0) + 1);
    seen.push(counts);
  }
  const least = (sql: string): number => Math.min(...seen.map((counts) => counts.get(sql) ?? 0));
  const questions = [...(seen[0]?.keys() ?? [])].flatMap((sql) => Array.from({ length: least(sql) }, () => sql));
  return { outcome: outcome.replaceAll(/theirs|gone|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "X"), questions: questions.toSorted() };
}

/** The cost of both. Something else that is asked all the time while one of them is looked at is not asked so each time. */
async function sameCost(one: () => Promise<void>, other: () => Promise<void>, words = (outcome: string): string => outcome): Promise<Cost> {
  for (let tries = 1; ; tries++) {
    const [first, second] = [await costOf(one), await costOf(other)].map((cost) => ({ ...cost, outcome: words(cost.outcome) }));
    if (tries < mostTries && !isDeepStrictEqual(first, second)) continue;
    expect(first).toEqual(second);
    if (first) return first;
  }
}

const methods = everyMethod();
const ofObjects = methods.filter(
  ({ policy }) => ["user", "person"].includes(policy.who) && (policy.scope === "vm" || policy.scope === "project"),
);

async function attempt(method: EveryMethod, caller: string, target: { vm: string; project: string }, more: object = {}): Promise<void> {
  const header = headers.get(caller) ?? "";
  if (method.service !== "GuestService")
    return callMethod(pitwall.channel, method, { ...target, self: "ada", image: pitwall.image }, header, more);
  await createClient(AccessServiceDefinition, gateway).openTunnel({
    caller: { credential: { $case: "bearerToken", value: header.replace(/^Bearer /, "") } },
    vm: target.vm,
    target: { target: { $case: "guestApi", value: {} } },
    token: randomBytes(32).toString("base64url"),
    gatewayAddress: "127.0.0.1:1",
    method: method.name,
  });
}

it("there are methods", () => expect(ofObjects.length).toBeGreaterThan(40));

it.each(ofObjects)("$name asks the same of the database for what is another's and for what is not there", async (method) => {
  for (const caller of ["ada", ...(method.policy.who === "user" ? ["ada's token"] : [])]) {
    const at = (vm: string, project: string) => (): Promise<void> => attempt(method, caller, { vm, project });
    await sameCost(at("theirs/web", "theirs"), at("gone/web", "gone"));
    const { outcome, questions } = await sameCost(at(theirs.vm, theirs.project), at(missing, missing));
    expect(outcome).toMatch(/^NOT_FOUND/);
    expect(questions.length).toBeGreaterThan(0);
  }
});

/** What is found by another name than its VM's or project's, asked for in a project of one's own. */
const within: readonly (readonly [name: string, theirs: object, missing: object])[] = [
  ["ProjectService/RevokeApiToken", { id: () => theirs.token }, { id: () => "0".repeat(16) }],
  ["ProjectService/DeleteRegistryCredential", { registry: () => "foreign.example" }, { registry: () => "absent.example" }],
  ["SessionService/EndSession", { id: () => theirs.session }, { id: () => missing }],
  ["SessionService/GetRecording", { id: () => theirs.recording }, { id: () => missing }],
  ["SessionService/ReadRecording", { id: () => theirs.recording }, { id: () => missing }],
  ["SessionService/DeleteRecording", { id: () => theirs.recording }, { id: () => missing }],
  ["ProfileService/DeleteSshKey", { fingerprint: () => theirs.fingerprint }, { fingerprint: () => "SHA256:none" }],
];

it.each(within)("%s does so for what is in a project of somebody else, or theirs", async (name, other, gone) => {
  const method = methods.find((one) => one.name === name);
  if (!method) throw new Error(`there is no ${name}`);
  const fields = (given: object): object =>
    Object.fromEntries(Object.entries(given).map(([field, value]) => [field, (value as () => string)()]));
  const given = (what: object) => (): Promise<void> => attempt(method, "ada", { vm: "ours/web", project: "ours" }, fields(what));
  const words = (outcome: string): string => outcome.replaceAll(/"[^"]*"|[a-z]+\.example/g, "X");
  const { outcome, questions } = await sameCost(given(other), given(gone), words);
  expect(outcome).toMatch(/^NOT_FOUND/);
  expect(questions.length).toBeGreaterThan(0);
});
