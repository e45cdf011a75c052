// What an administrator carries from the controller to a new member: one line of text.
import { PitwallError } from "@pitwall/runtime";
import { z } from "zod";

const prefix = "pitwall-join.v1.";

const join = z.object({
  /** One-time secret. */
  token: z.string().min(1),
  /** Hex SHA-256 of the DER of the controller's CA certificate. */
  ca: z.string().regex(/^[0-9a-f]{64}$/),
  /** `host:port` of the API. */
  api: z.string().min(3),
  /** `host:port` of the link. */
  link: z.string().min(3),
  /** The same of other controllers, for when that one is gone. */
  others: z.array(z.object({ api: z.string().min(3), link: z.string().min(3) })).default([]),
});

export type Join = Readonly<z.output<typeof join>>;

export function formatJoin(content: Join): string {
  return prefix + Buffer.from(JSON.stringify(content)).toString("base64url");
}

/** Throws `invalid`; the message never holds the secret. */
export function parseJoin(text: string): Join {
  try {
    if (!text.startsWith(prefix)) throw new Error("wrong prefix");
    return join.parse(JSON.parse(Buffer.from(text.slice(prefix.length), "base64url").toString()));
  } catch (cause) {
    const message = "the join string is not whole: copy all of what `pitwall join-token` printed, from pitwall-join.v1 on";
    throw new PitwallError("invalid", message, { field: "join", reason: "INVALID_CONFIG", cause });
  }
}
