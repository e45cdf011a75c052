// Repeats of requests whose answer holds a secret, or whose effect is not in the database.
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { openIdentity } from "@pitwall/enroll";
import type { ImageAnswer, ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { JoinRole } from "@pitwall/proto/pitwall/v1/node.ts";
import { silentLog, systemClock } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { joinNode, stayHeard, type SpokenLink } from "./support/spoken-node.ts";

let pitwall: TestControllers;
let root: Calls;
let elsewhere: Calls;

beforeAll(async () => {
  pitwall = await startControllers(2);
  root = await pitwall.as(admin);
  elsewhere = await pitwall.as(admin, 1);
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

const count = async (sql: string, ...values: unknown[]): Promise<number> =>
  Number((await pitwall.query(`select count(*)::int as n ${sql}`, values))[0]?.["n"]);

describe("a join token that is asked for again", () => {
  const request = { role: JoinRole.JOIN_ROLE_NODE, name: "again", labels: { zone: "a" } };

  it("is the same one, also from another controller, and lets in one host", async () => {
    const requestId = randomUUID();
    const before = await count("from join_token");
    const first = await root.nodes.createJoinToken({ ...request, requestId });
    expect(await elsewhere.nodes.createJoinToken({ ...request, requestId })).toEqual(first);
    expect(await count("from join_token")).toBe(before + 1);
    expect(await count("from audit_entry where request_id = $1", requestId)).toBe(1);
    const joining = { join: first.join, name: "again", serverNames: [], log: silentLog };
    await using node = await openIdentity({ ...joining, dir: join(pitwall.dir, "again") });
    expect(await count("from node where id = $1", node.id)).toBe(1);
    await expect(openIdentity({ ...joining, dir: join(pitwall.dir, "again-too") })).rejects.toThrow("was used already");
  });

  it("is nowhere in the database in clear", async () => {
    const requestId = randomUUID();
    const { join: text } = await root.nodes.createJoinToken({ ...request, name: "", requestId });
    const secrets = text.split(/[^A-Za-z0-9_-]/).filter((part) => part.length >= 40);
    expect(secrets.length).toBeGreaterThan(0);
    const [row] = await pitwall.query("select encode(answer, 'escape') as answer from request where request_id = $1", [requestId]);
    for (const secret of [text, ...secrets]) expect(String(row?.["answer"])).not.toContain(secret);
  });

  it("is refused for another wish, and is another one without an id", async () => {
    const requestId = randomUUID();
    const first = await root.nodes.createJoinToken({ ...request, name: "", requestId });
    await expect(root.nodes.createJoinToken({ ...request, name: "other", requestId })).rejects.toThrow("was used for another request");
    expect((await root.nodes.createJoinToken({ ...request, name: "" })).join).not.toBe(first.join);
  });
});

describe("an SSH key", () => {
  const publicKey = `ssh-ed25519 ${Buffer.concat([Buffer.from("0000000b7373682d6564323535313900000020", "hex"), Buffer.alloc(32, 9)]).toString("base64")}`;

  it("that is added or deleted again under one id is so once, whatever was done since", async () => {
    const { profile } = await pitwall.as("ada");
    const [adding, deleting] = [randomUUID(), randomUUID()];
    const added = await profile.addSshKey({ publicKey, requestId: adding });
    const fingerprint = added.key?.fingerprint ?? "";
    await profile.deleteSshKey({ fingerprint, requestId: deleting });
    expect(await profile.addSshKey({ publicKey, requestId: adding })).toEqual(added);
    expect((await profile.listSshKeys({})).keys).toEqual([]);
    await profile.addSshKey({ publicKey });
    await profile.addSshKey({ publicKey, requestId: randomUUID() }); // has it already
    expect(await count("from audit_entry where action = 'ProfileService/AddSshKey' and object = $1", `key/${fingerprint}`)).toBe(2);
    await profile.deleteSshKey({ fingerprint, requestId: deleting });
    expect((await profile.listSshKeys({})).keys.map((key) => key.fingerprint)).toEqual([fingerprint]);
    await profile.deleteSshKey({ fingerprint });
    await expect(profile.deleteSshKey({ fingerprint })).rejects.toThrow("NOT_FOUND");
  });
});

describe("an image that is deleted", () => {
  const digest = `sha256:${"ab".repeat(32)}`;
  let freed: number;
  let link: SpokenLink;
  /** Until it resolves, the node does not answer that it has freed anything. */
  let answers = Promise.resolve();

  beforeAll(async () => {
    const node = await joinNode(pitwall, root, "holder");
    link = await node.link(pitwall.controllers[0]?.link ?? "");
    void stayHeard(link, 500);
    void serve();
  });
  afterAll(() => link?.[Symbol.asyncDispose]());

  async function serve(): Promise<void> {
    for (let next = 0; !link.isOver; await systemClock.sleep(10))
      for (const message of link.heard.slice(next)) {
        next++;
        if (message.$case === "imageCommand") void answer(message.value);
      }
  }

  async function answer({ requestId, command }: ImageCommand): Promise<void> {
    const held = freed === 0 ? [{ digest, references: ["registry.example/held:1"], baseBytes: 1n, layerBytes: 1n }] : [];
    const value: ImageAnswer = { requestId, reason: "", message: "", inventory: undefined, freed: undefined };
    if (command?.$case === "inventory") value.inventory = { images: held };
    else {
      freed++;
      await answers;
      value.freed = { digests: [digest], baseBytes: 1n, layerBytes: 1n, digestsInUse: [] };
    }
    link.say({ $case: "imageAnswer", value });
  }

  it("again under one id is freed once and has one answer, also while the first is under way", async () => {
    freed = 0;
    const held = Promise.withResolvers<void>();
    answers = held.promise;
    const requestId = randomUUID();
    const first = root.images.deleteImage({ image: digest, requestId });
    await expect.poll(() => freed, { timeout: 30_000 }).toBe(1);
    const second = elsewhere.images.deleteImage({ image: digest, requestId });
    held.resolve();
    expect((await first).nodes).toMatchObject([{ node: "holder", digests: [digest] }]);
    expect(await second).toEqual(await first);
    expect(await root.images.deleteImage({ image: digest, requestId })).toEqual(await first);
    expect(freed).toBe(1);
    expect(await count("from audit_entry where action = 'ImageService/DeleteImage' and request_id = $1", requestId)).toBe(1);
    await expect(root.images.deleteImage({ image: digest })).rejects.toThrow("NOT_FOUND");
  });
});
