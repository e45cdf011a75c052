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
  const [known]: KnownRequest[] = await em.execute("select method, digest, answer from request where owner = ? and request_id = ?", [
    ...[request.subject, request.requestId],
  ]);
  return known && answerOf(known, request);
}

/** Lets in several requests, of which none must wait for another in a circle: all do it in the same order. */
export async function enterAll(em: EntityManager, requests: readonly Pick<RememberedRequest, "subject" | "requestId">[]): Promise<void> {
  if (requests.length === 0) return;
  await em.execute(
    `select count(pg_advisory_xact_lock(key)) from
       (select hashtextextended(id, 0) as key from jsonb_array_elements_text(?::jsonb) as id order by 1 offset 0) as sorted`,
    [JSON.stringify(requests.map(({ subject, requestId }) => `${subject}\n${requestId}`))],
  );
}

/** A row of `request`. */
export interface KnownRequest {
  readonly method: string;
  readonly digest: string;
  readonly answer: Buffer | null;
}

/** Its answer, if it was the same request. Throws `invalid` otherwise. */
export function answerOf(known: KnownRequest, { action, digest }: Pick<RememberedRequest, "action" | "digest">): Buffer {
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

/** An answer as {@link answersFrom} takes it. */
export interface AnswerRecord {
  readonly owner: string;
  readonly request_id: string;
  readonly method: string;
  readonly digest: string;
  /** Base64. */
  readonly answer: string;
}

export function answerRecord({ subject, requestId, action, digest }: RememberedRequest, answer: Uint8Array): AnswerRecord {
  return { owner: subject, request_id: requestId, method: action, digest, answer: Buffer.from(answer).toString("base64") };
}

/** SQL: writes an answer for each row of a set in which a JSON column holds one. */
export function answersFrom(set: string, column: string): string {
  return `insert into request (owner, request_id, method, digest, answer, create_time)
    select one.owner, one.request_id, one.method, one.digest, decode(one.answer, 'base64'), now() from ${set}, jsonb_to_record(${set}.${column}) as one(
      owner text, request_id uuid, method text, digest text, answer text)
    where jsonb_typeof(${set}.${column}) = 'object'`;
}

/** Forgets those that are older. */
export async function forgetAnswers(em: EntityManager, olderThanMs: number): Promise<void> {
  await em.execute("delete from request where create_time < now() - ? * interval '1 millisecond'", [olderThanMs]);
}
