// The one way in which anything is changed on somebody's behalf: a request has one effect, one answer and an entry in the audit log, all
// in one transaction, or none of them.
import { createHash } from "node:crypto";
import { checkUuid, PitwallError, planted, type Clock } from "@pitwall/runtime";
import type { Principal } from "../projects/principal.ts";
import { quotaFault } from "../quota/quota.ts";
import type { EntityManager, Store } from "../store/store.ts";
import { earlierAnswer, rememberAnswer, type RememberedRequest } from "./answers.ts";
import { writeAudit, type AuditOrigin, type AuditRecord } from "./audit.ts";
import { readPlan, signPlan, type Choice, type Planned } from "./plan-token.ts";
import type { Signer } from "./signer.ts";

/** A method as generated code describes it: an entry of `XServiceDefinition.methods`. */
export interface Method<Req, Res> {
  readonly name: string;
  readonly requestType: { encode(message: Req): { finish(): Uint8Array } };
  readonly responseType: { encode(message: Res): { finish(): Uint8Array }; decode(bytes: Uint8Array): Res };
}

/** The fields that a mutation's request may have. */
interface Given {
  readonly requestId?: string;
  readonly validateOnly?: boolean;
  readonly planToken?: string;
}

/** What a change is made with. */
export interface Change {
  readonly em: EntityManager;
  /** Everything is undone after `work`; its answer should hold a plan. */
  readonly validateOnly: boolean;
  /** What must be chosen, and changed, exactly: `plan_token` says so. Throw {@link planStale} otherwise. */
  readonly plan: Choice | undefined;
  /** For the audit log; at least once in a change, also when nothing had to be changed. */
  audit(record: AuditRecord): Promise<void>;
  /** Instead of that, of what programs ask for again and again although it is so already: nobody would find the rest among the entries. */
  unchanged(): void;
  /** A token that applies this choice. */
  planToken(choice: Choice): string;
  /** Called once the change is on disk. */
  after(then: () => void): void;
}

export interface MutationCall<Req, Res> {
  readonly service: { readonly name: string };
  readonly method: Method<Req, Res>;
  readonly caller: Principal;
  readonly request: Req;
  /**
   * Decides and writes; run anew after a deadlock. What is decided on must be locked: a VM by `lockVm`, before all else. Repeats of the
   * request do not come here.
   */
  work(change: Change): Promise<Res>;
}

export interface Leavings {
  readonly origin: AuditOrigin;
  /** By which its answer is remembered; undefined: it has no id. */
  readonly request: RememberedRequest | undefined;
}

/** Who does what nobody asked for. */
export const systemItself = { actor: "system", subject: "system" } as const;

export class Mutations {
  readonly #store: Store;
  readonly #signer: Signer;
  readonly #clock: Clock;

  constructor({ store, signer, clock }: { store: Store; signer: Signer; clock: Clock }) {
    this.#store = store;
    this.#signer = signer;
    this.#clock = clock;
  }

  /**
   * Throws `invalid` for a bad or reused request id, or a plan token of another request; `race` for a plan token that is too old; and what
   * `work` throws.
   */
  async run<Req extends object, Res>({ service, method, caller, request, work }: MutationCall<Req, Res>): Promise<Res> {
    const { requestId = "", validateOnly = false, planToken = "" }: Given = request;
    if (requestId !== "") checkUuid(requestId, "request_id");
    const action = `${service.name}/${method.name}`;
    const origin: AuditOrigin = { ...originOf(caller), action, requestId };
    const planned: Planned = { action, actor: origin.actor, digest: digestOf(method, request, { planToken: "", validateOnly: false }) };
    const plan = planToken === "" ? undefined : readPlan(this.#signer, planToken, planned, this.#clock.wallMs());
    const remembered: RememberedRequest = { subject: origin.actor, requestId, action, digest: digestOf(method, request, {}) };
    const remembers = requestId !== "" && !validateOnly && !planted("create-twice");
    const made = this.#store.change(
      async (em, after) => {
        const answer = remembers ? await earlierAnswer(em, remembered) : undefined;
        if (answer) return method.responseType.decode(answer);
        const { change, wasAudited } = this.#changeIn(em, after, origin, { validateOnly, plan, planned });
        const response = await work(change);
        if (!wasAudited()) throw new Error(`${action} changed something without an entry in the audit log`);
        if (remembers) await rememberAnswer(em, remembered, method.responseType.encode(response).finish());
        return response;
      },
      { undo: validateOnly },
    );
    return made.catch((error: unknown) => {
      throw quotaFault(error) ?? error;
    });
  }

  /**
   * What a call leaves besides its effect, for a change that several of them are made in; undefined for one that only asks, or applies a
   * plan: it is run alone. Throws `invalid` for a bad request id.
   */
  leavings<Req extends object, Res>({ service, method, caller, request }: Omit<MutationCall<Req, Res>, "work">): Leavings | undefined {
    const { requestId = "", validateOnly = false, planToken = "" }: Given = request;
    if (requestId !== "") checkUuid(requestId, "request_id");
    if (validateOnly || planToken !== "") return undefined;
    const action = `${service.name}/${method.name}`;
    const origin = { ...originOf(caller), action, requestId };
    const isRemembered = requestId !== "" && !planted("create-twice");
    return {
      origin,
      request: isRemembered ? { subject: origin.actor, requestId, action, digest: digestOf(method, request, {}) } : undefined,
    };
  }

  /**
   * For an effect that is not in the database, and takes seconds at most: its entry is written before it. A request that is repeated waits for
   * the first one and returns its answer; what failed is not remembered, nor what was done when the controller died before it had an answer.
   */
  async outside<Req extends object, Res>({
    record,
    work,
    ...call
  }: Omit<MutationCall<Req, Res>, "work"> & { readonly record: AuditRecord; work(): Promise<Res> }): Promise<Res> {
    const leavings = this.leavings(call);
    if (!leavings) throw new Error(`${call.method.name} cannot be planned`);
    const { origin, request } = leavings;
    const note = async (): Promise<void> => this.#store.change((em) => writeAudit(em, origin, record));
    if (!request) {
      await note();
      return work();
    }
    const { responseType } = call.method;
    // Open for as long as the effect takes: it draws no transaction number, and locks nothing but the request's id, before there is an answer.
    return this.#store.change(async (em) => {
      const answer = await earlierAnswer(em, request);
      if (answer) return responseType.decode(answer);
      await note();
      const response = await work();
      await rememberAnswer(em, request, responseType.encode(response).finish());
      return response;
    });
  }

  /** An entry for an accepted call whose effect is not in the database; it comes before the effect. `action` is `Service/Method`. */
  async note(caller: Principal, action: string, record: AuditRecord): Promise<void> {
    await this.#store.change((em) => writeAudit(em, { ...originOf(caller), action, requestId: "" }, record));
  }

  /** A change that nobody asked for at this moment: what is due, or follows from what a node says. `action` is one word. */
  async system<T>(action: string, work: (change: Change) => Promise<T>): Promise<T> {
    const origin: AuditOrigin = { ...systemItself, action, requestId: "" };
    const planned = { action, actor: systemItself.actor, digest: "" };
    return this.#store.change(async (em, after) =>
      work(this.#changeIn(em, after, origin, { validateOnly: false, plan: undefined, planned }).change),
    );
  }

  #changeIn(
    em: EntityManager,
    after: (then: () => void) => void,
    origin: AuditOrigin,
    { validateOnly, plan, planned }: { validateOnly: boolean; plan: Choice | undefined; planned: Planned },
  ): { change: Change; wasAudited: () => boolean } {
    let audited = 0;
    const change: Change = {
      em,
      validateOnly,
      plan,
      after,
      audit: async (record) => {
        audited++;
        await writeAudit(em, origin, record);
      },
      unchanged: () => void audited++,
      planToken: (choice) => signPlan(this.#signer, planned, choice, this.#clock.wallMs()),
    };
    return { change, wasAudited: () => audited > 0 };
  }
}

/** A token acts on behalf of whoever made it. */
export function originOf({ subject, token }: Principal): Pick<AuditOrigin, "actor" | "subject"> {
  return { actor: token ? `token:${token.id}` : subject, subject };
}

function digestOf<Req extends object>({ name, requestType }: Method<Req, unknown>, request: Req, without: Given): string {
  const bytes = requestType.encode({ ...request, requestId: "", ...without }).finish();
  return createHash("sha256").update(name).update("\0").update(bytes).digest("hex");
}

/** Throws `race` unless the etag is empty or the latest. */
export function checkEtag(given: string, latest: string, what: string): void {
  if (given !== "" && given !== latest)
    throw new PitwallError(
      "race",
      `etag: ${what} has changed since it was read: its etag is ${latest}, not ${given.slice(0, 40)}; read it again`,
      {
        reason: "ETAG_STALE",
        field: "etag",
      },
    );
}
