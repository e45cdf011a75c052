// Plan tokens: what a plan was made of, signed, so that it can be applied as it was shown or not at all.
import { invalid, PitwallError } from "@pitwall/runtime";
import { z } from "zod";
import type { Signer } from "./signer.ts";

const lifeMs = 10 * 60_000;
const purpose = "plan";

/** What a plan chose, and saw. */
export interface Choice {
  /** Empty: nothing is placed. */
  readonly nodeId: string;
  /** Etag of what is changed; empty: it is new. */
  readonly etag: string;
  /** Of what is new: how it was called, and what its image stood for. */
  readonly made?: { readonly name: string; readonly imageDigest: string } | undefined;
}

/** Whose plan of which request. */
export interface Planned {
  /** `Service/Method` */
  readonly action: string;
  readonly actor: string;
  /** Of the request without its id, token and `validate_only`. */
  readonly digest: string;
}

const payloadOf = z.tuple([z.string(), z.string(), z.string(), z.number(), z.string(), z.string()]).rest(z.string());

export function signPlan(signer: Signer, { action, actor, digest }: Planned, { nodeId, etag, made }: Choice, nowMs: number): string {
  const payload: z.input<typeof payloadOf> = [
    action,
    actor,
    digest,
    nowMs + lifeMs,
    nodeId,
    etag,
    ...(made ? [made.name, made.imageDigest] : []),
  ];
  return signer.sign(purpose, Buffer.from(JSON.stringify(payload)).toString("base64url"));
}

/** Throws `invalid` for a token that is not of this request, `race` for one that is too old. */
export function readPlan(signer: Signer, token: string, { action, actor, digest }: Planned, nowMs: number): Choice {
  const payload = signer.verify(purpose, token);
  if (payload === undefined) throw invalid("plan_token", "is not a token that `validate_only` returned");
  const [ofAction, ofActor, ofDigest, endMs, nodeId, etag, name, imageDigest] = payloadOf.parse(
    JSON.parse(Buffer.from(payload, "base64url").toString()),
  );
  if (ofAction !== action || ofActor !== actor || ofDigest !== digest)
    throw invalid("plan_token", "is of another request; send the request that was planned, unchanged");
  if (nowMs > endMs) throw planStale("it is more than 10 minutes old");
  return { nodeId, etag, made: name === undefined || imageDigest === undefined ? undefined : { name, imageDigest } };
}

/** What has changed since the plan was made. */
export function planStale(what: string): PitwallError {
  return new PitwallError("race", `plan_token: the plan no longer holds: ${what}; plan again`, {
    reason: "PLAN_STALE",
    field: "plan_token",
  });
}
