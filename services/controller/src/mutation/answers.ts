// Remembered answers: a request that is made twice has one effect and one answer.
//
// Requests of one id are let in one after the other by an advisory lock: it draws no transaction number, so that a VM can still be locked
// first (store/vm-rows.ts). The answer is written in the transaction of what it tells of.
import { PitwallError } from "@pitwall/runtime";
import type { EntityManager } from "../store/store.ts";

export interface RememberedRequest {
  readonly subject: string;
  readonly requestId: string;
  readonly action: string;
  /** Of the request without its id. */
  readonly digest: string;
}

/**
 * The encoded answer of an earlier request of this id; undefined: it is the first, and others of it wait until this change has ended.
 * Throws `invalid` if the earlier one was another.
 */
export async function earlierAnswer(em: EntityManager, request: RememberedRequest): Promise<Buffer | undefined> {
  await em.execute("select pg_advisory_xact_lock(hashtextextended(?, 0))", [`${request.subject}\n${request.requestId}`]);
  return knownAnswer(em, request);
}

/** The same without waiting for one that is under way. */
export async function knownAnswer(
  em: EntityManager,
  { subject, requestId, action, digest }: RememberedRequest,
): Promise<Buffer | undefined> {
  const [known]: { method: string; digest: string; answer: Buffer | null }[] = await em.execute(
    "select method, digest, answer from request where owner = ? and request_id = ?",
    [subject, requestId],
  );
  if (!known) return undefined;
  if (known.answer === null)
    throw new PitwallError(
      "race",
      "request_id: was answered by an earlier version, which did not keep its answers; look at what is there",
      {
        reason: "REQUEST_ANSWER_UNKNOWN",
        field: "request_id",
      },
    );
  if (known.method !== action || known.digest !== digest)
    throw new PitwallError("invalid", "request_id: was used for another request", { reason: "REQUEST_ID_REUSED", field: "request_id" });
  return known.answer;
}

export async function rememberAnswer(em: EntityManager, request: RememberedRequest, answer: Uint8Array): Promise<void> {
  const { subject, requestId, action, digest } = request;
  await em.execute("insert into request (owner, request_id, method, digest, answer, create_time) values (?, ?, ?, ?, ?, now())", [
    ...[subject, requestId, action, digest, Buffer.from(answer)],
  ]);
}

/** Forgets those that are older. */
export async function forgetAnswers(em: EntityManager, olderThanMs: number): Promise<void> {
  await em.execute("delete from request where create_time < now() - ? * interval '1 millisecond'", [olderThanMs]);
}
