// Nodes that have joined already: certificates of the installation's own CA on disk, and the rows that joining leaves. Joining is not what
// is measured, and is work for minutes when there are thousands.
import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Ca } from "@pitwall/controller/src/ca/ca.ts";
import type { Installation } from "@pitwall/controller/tests/support/installation.ts";
import { makeRequest, type TlsIdentity } from "@pitwall/enroll";

const atOnce = 8;
/** Rows of one statement. */
const batchSize = 1_000;

/** Where controllers are: `host:port` each. */
export interface Addresses {
  readonly api: string;
  readonly link: string;
}

interface Member {
  readonly id: string;
  readonly name: string;
}

/** A certificate that the installation's link port takes. */
export async function makeIdentity(ca: Ca): Promise<TlsIdentity & { readonly id: string }> {
  const id = randomUUID();
  const { key, csr } = await makeRequest(id);
  const { certificate } = await ca.issueMember({ role: "node", id, serverNames: [] }, csr);
  return { id, key, cert: certificate, ca: `${ca.certificate}\n` };
}

/** Nodes NAME-1 to NAME-COUNT below the state folder of a simulation that is to be started with these names. */
export async function enrollNodes(
  { query }: Pick<Installation, "query">,
  ca: Ca,
  at: Addresses,
  { stateDir, name, count }: { readonly stateDir: string; readonly name: string; readonly count: number },
): Promise<void> {
  const members: Member[] = [];
  const indices = Array.from({ length: count }, (_, index) => index + 1).values();
  const work = async (): Promise<void> => {
    for (const index of indices) members.push(await writeIdentity(ca, at, stateDir, `${name}-${index}`));
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  for (let from = 0; from < members.length; from += batchSize) {
    const rows = JSON.stringify(members.slice(from, from + batchSize));
    await query(
      `with joined as (select * from jsonb_to_recordset($1) as joined(id uuid, name text)), member as (
         insert into member (id, role, name, create_time, certificate_expire_time)
         select id, 'node', name, now(), now() + interval '1 day' from joined returning id)
       insert into node (id, name, create_time) select id, name, now() from joined`,
      [rows],
    );
  }
}

async function writeIdentity(ca: Ca, { api, link }: Addresses, stateDir: string, name: string): Promise<Member> {
  const { id, key, cert, ca: authority } = await makeIdentity(ca);
  const dir = join(stateDir, "nodes", name);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const identity = { version: 1, id, name, key, certificate: cert, ca: authority, api, link, controllers: [{ api, link }] };
  await writeFile(join(dir, "identity.json"), JSON.stringify(identity), { mode: 0o600 });
  return { id, name };
}
