// How a call was refused, for tests that compare refusals.
import { ClientError, Status } from "nice-grpc";

interface Refused {
  /** `OK`, or the status's name. */
  readonly code: string;
  readonly message: string;
}

/** Never rejects for a refusal. */
async function outcome(call: Promise<unknown>): Promise<Refused> {
  try {
    await call;
    return { code: "OK", message: "" };
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    return { code: Status[error.code], message: error.details };
  }
}

/** `CODE message`. */
export async function refusalOf(call: Promise<unknown>): Promise<string> {
  const { code, message } = await outcome(call);
  return `${code} ${message}`.trim();
}
