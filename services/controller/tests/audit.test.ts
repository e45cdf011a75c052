// The audit log on a real database: every entry gets its place, heads are signed, exports verify, and nothing can be changed.
import { readFile } from "node:fs/promises";
import { createPublicKey } from "node:crypto";
import { join } from "node:path";
import { entryHash, verifyExport, type ExportedEntry, type SignedHead } from "@pitwall/audit";
import type { AuditEntry, AuditHead } from "@pitwall/proto/pitwall/v1/audit.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { admin, startControllers, type Calls, type TestControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";

let pitwall: TestControllers;
let ada: Calls;
let root: Calls;

beforeAll(async () => {
  pitwall = await startControllers(2);
  [ada, root] = [await pitwall.as("ada"), await pitwall.as(admin)];
  const other = await pitwall.as("ada", 1);
  await ada.projects.getProject({});
  await Promise.all(Array.from({ length: 30 }, (_, at) => (at % 2 === 0 ? ada : other).projects.updateProject(change(at))));
});
afterAll(() => pitwall?.[Symbol.asyncDispose]());

const change = (seconds: number) => ({
  project: "ada",
  value: { undeleteWindow: { seconds: BigInt(seconds) } },
  updateMask: ["undelete_window"],
});

interface Exported {
  readonly entries: ExportedEntry[];
  readonly head: SignedHead | undefined;
}

async function exported(): Promise<Exported> {
  const entries: ExportedEntry[] = [];
  let head: SignedHead | undefined;
  for await (const { item } of root.audit.exportAudit({})) {
    if (item?.$case === "entry") entries.push(toEntry(item.value));
    if (item?.$case === "head") head = toHead(item.value);
  }
  return { entries, head };
}

function toEntry({ time, index, leafHash, ...rest }: AuditEntry): ExportedEntry {
  return { ...rest, index: Number(index), timeMs: time?.getTime() ?? 0, leafHash: Buffer.from(leafHash) };
}

function toHead({ size, rootHash, time, signature, publicKey }: AuditHead): SignedHead {
  const bytes = { root: Buffer.from(rootHash), signature: Buffer.from(signature), publicKey: Buffer.from(publicKey) };
  return { size: Number(size), timeMs: time?.getTime() ?? 0, ...bytes };
}

const rows = async (): Promise<number> => Number((await pitwall.query("select count(*) as n from audit_entry"))[0]?.["n"]);
/** Resolves once all that is in the log now has its place. */
const settled = async (): Promise<void> => {
  const count = await rows();
  await expect
    .poll(async () => Number((await root.audit.getAuditHead({})).head?.size ?? 0), { timeout: 20_000 })
    .toBeGreaterThanOrEqual(count);
};

describe("the audit log", () => {
  it("gives each entry one place in a signed tree, whichever controller it came through", async () => {
    await settled();
    const { entries, head } = await exported();
    expect(entries.length).toBeGreaterThanOrEqual(32);
    expect(entries.filter(({ action }) => action === "ProjectService/UpdateProject")).toHaveLength(30);
    const pem = await readFile(join(pitwall.dir, "controller-0", "ca", "audit.pub.pem"));
    const publicKey = createPublicKey(pem).export({ type: "spki", format: "der" });
    expect(verifyExport(entries, head, { publicKey })).toEqual([]);
  });

  it("begins later as it began before", async () => {
    await settled();
    const older = await exported();
    await ada.projects.updateProject(change(99));
    await settled();
    const newer = await exported();
    expect(newer.entries.length).toBeGreaterThan(older.entries.length);
    expect(newer.entries.slice(0, older.entries.length)).toEqual(older.entries);
    expect(verifyExport(newer.entries, newer.head, { head: older.head, entries: older.entries })).toEqual([]);
    expect(verifyExport(older.entries, older.head, { head: newer.head })).not.toEqual([]);
  });

  it("cannot be changed, emptied or shortened in the database", async () => {
    for (const statement of [
      "update audit_entry set actor = 'eve'",
      "delete from audit_leaf",
      "truncate audit_head",
      "truncate audit_entry cascade",
    ])
      await expect(pitwall.query(statement)).rejects.toThrow("the audit log is append-only");
  });

  it("tells of a row that was changed all the same", async () => {
    await settled();
    const whole = await exported();
    await pitwall.query("alter table audit_entry disable trigger audit_entry_append_only");
    await pitwall.query(`update audit_entry set actor = 'eve' where seq = (select seq from audit_leaf where index = 7)`);
    const tampered = await exported();
    expect(verifyExport(tampered.entries, tampered.head)).toEqual(["entry 7 was changed: it is not what its hash was made of"]);
    const [entry] = whole.entries.filter(({ index }) => index === 7);
    await pitwall.query(`update audit_entry set actor = $1 where seq = (select seq from audit_leaf where index = 7)`, [entry?.actor]);
    await pitwall.query("alter table audit_entry enable trigger audit_entry_append_only");
    const { entries, head } = await exported();
    expect(verifyExport(entries, head)).toEqual([]);
  });

  it("waits for transactions that still run, so that none comes too late for its place", async () => {
    await settled();
    const before = Number((await root.audit.getAuditHead({})).head?.size);
    await pitwall.holding(async (commit) => {
      await ada.projects.updateProject(change(5)); // younger, and first on disk
      await commit();
    });
    await settled();
    const { entries, head } = await exported();
    expect(entries.slice(before).map(({ action }) => action)).toEqual(["test", "ProjectService/UpdateProject"]);
    expect(verifyExport(entries, head)).toEqual([]);
  });

  it("goes on after the database was restored into a server with fewer transactions", async () => {
    await settled();
    const older = await exported();
    await pitwall.query("update audit_tree set txid = '9000000000000000'");
    await pitwall.query(
      "insert into audit_entry (txid, actor, subject, action, object, detail) values ('9000000000000001', 'a', 'a', 'left', 'x', '{}')",
    );
    await ada.projects.updateProject(change(6));
    await settled();
    const { entries, head } = await exported();
    expect(entries.slice(older.entries.length).map(({ action }) => action)).toEqual(["left", "ProjectService/UpdateProject"]);
    expect(verifyExport(entries, head, { head: older.head })).toEqual([]);
  });
});

describe("an entry is there", () => {
  const entriesOf = async (action: string): Promise<Record<string, unknown>[]> =>
    pitwall.query("select actor, subject, object, detail from audit_entry where action = $1 order by seq", [action]);

  it("of changes outside VMs and projects: keys, images, what joins", async () => {
    const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGpn0LK8uQ5HgVmGTGjHqwIbZbWVmrGGGrpzq1x7iTRs ada";
    const { key } = await ada.profile.addSshKey({ publicKey });
    await ada.profile.deleteSshKey({ fingerprint: key?.fingerprint ?? "" });
    await refusalOf(ada.profile.deleteSshKey({ fingerprint: "SHA256:none" })); // which changes nothing
    await refusalOf(begin(ada.images.pullImage({ image: pitwall.image })));
    await refusalOf(root.images.deleteImage({ image: pitwall.image }));
    await root.images.collectGarbage({ dryRun: true });
    await root.images.collectGarbage({});
    await using node = await startNode(pitwall, { name: "one" });
    const by = (actor: string): object => ({ actor, subject: actor });
    const one = (found: Record<string, unknown>[]): unknown => (found.length === 1 ? found[0] : found);
    expect(one(await entriesOf("ProfileService/AddSshKey"))).toMatchObject({ ...by("ada"), object: `key/${key?.fingerprint}` });
    expect(one(await entriesOf("ProfileService/DeleteSshKey"))).toMatchObject({ ...by("ada"), object: `key/${key?.fingerprint}` });
    expect(one(await entriesOf("ImageService/PullImage"))).toMatchObject({ ...by("ada"), object: `image/${pitwall.image}` });
    expect(one(await entriesOf("ImageService/DeleteImage"))).toMatchObject({ ...by(admin), object: `image/${pitwall.image}` });
    expect(one(await entriesOf("ImageService/CollectGarbage"))).toMatchObject({ ...by(admin), object: "images" });
    expect(one(await entriesOf("NodeService/CreateJoinToken"))).toMatchObject({
      ...by(admin),
      detail: { role: "node", name: "one", uses: 1 },
    });
    expect(one(await entriesOf("EnrollService/Join"))).toMatchObject({ ...by(`node:${node.id}`), object: `node/${node.id}` });
  });
});

async function begin(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream) return;
}

describe("who may read", () => {
  it("owners their project's entries, newest first, in pages and filtered", async () => {
    await settled();
    const first = await ada.audit.listAuditEntries({ pageSize: 3 });
    const second = await ada.audit.listAuditEntries({ pageSize: 3, pageToken: first.nextPageToken });
    const indices = [...first.entries, ...second.entries].map(({ index }) => Number(index));
    expect(indices).toEqual(indices.toSorted((a, b) => b - a));
    expect(new Set(indices).size).toBe(6);
    const made = await ada.audit.listAuditEntries({ filter: 'action = "CreatePersonalProject"' });
    expect(made.entries).toMatchObject([{ actor: "system", detail: expect.stringContaining('"personalOf"') as string }]);
    expect(entryHash(toEntry(made.entries[0] as AuditEntry))).toEqual(Buffer.from(made.entries[0]?.leafHash ?? []));
    expect((await ada.audit.listAuditEntries({ filter: 'time < "2000-01-01T00:00:00Z"' })).entries).toEqual([]);
    expect(await refusalOf(ada.audit.listAuditEntries({ filter: "x" }))).toMatch(/^INVALID_ARGUMENT filter:/);
    expect(await refusalOf(ada.audit.listAuditEntries({ pageToken: "x" }))).toMatch(/^INVALID_ARGUMENT page_token:/);
  });

  it("members not, and administrators everything", async () => {
    const bob = await pitwall.as("bob");
    await ada.projects.setProjectMember({ project: "ada", subject: "bob", role: 2 });
    expect(await refusalOf(bob.audit.listAuditEntries({ project: "ada" }))).toMatch(/^PERMISSION_DENIED/);
    expect(await refusalOf(ada.audit.listAuditEntries({ project: "-" }))).toMatch(/^PERMISSION_DENIED project: the whole log/);
    expect((await root.audit.listAuditEntries({ project: "-" })).entries.length).toBeGreaterThan(30);
    expect(
      await refusalOf(
        (async () => {
          for await (const _ of ada.audit.exportAudit({}));
        })(),
      ),
    ).toMatch(/^PERMISSION_DENIED/);
  });
});
