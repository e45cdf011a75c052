// Gives connections that have ended back to their pool, whoever had taken them.
//
// Kysely 0.29 gives a transaction's connection back when it was committed or rolled back, and neither works on one that has ended
// (ControlledTransactionBuilder.execute, ControlledTransaction.commit and .rollback): it stays taken, and when all of a pool have, by and by,
// nobody is served ever again. tests/broken-connections.test.ts.
import type { Pool, PoolClient } from "pg";

export function giveBackBroken(pool: Pool): void {
  const taken = new Set<PoolClient>();
  pool.on("acquire", (client) => taken.add(client));
  pool.on("release", (_, client) => taken.delete(client));
  pool.on("connect", (client) => {
    client.once("end", () => {
      if (!taken.has(client)) return;
      client.release(true);
      client.release = () => undefined; // whoever had it may still do it
    });
  });
}
