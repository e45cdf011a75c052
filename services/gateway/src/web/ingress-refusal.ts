// What somebody hears whose request does not get into a VM, or gets no answer from there.
import { PitwallError, type Fault } from "@pitwall/runtime";

export interface IngressRefusal {
  readonly status: number;
  readonly words: string;
}

const httpStatus: Readonly<Partial<Record<Fault, number>>> = {
  invalid: 400,
  unauthenticated: 401,
  denied: 403,
  "not-found": 404,
  state: 503,
  exhausted: 429,
  unavailable: 503,
  deadline: 504,
};

export function notHttp(): PitwallError {
  return new PitwallError("corrupt", "what listens on this port of the VM does not answer as HTTP/1.1 does", { reason: "BAD_ANSWER" });
}

/** Of whatever went wrong, before the VM's answer began. */
export function ingressRefusal(error: unknown): IngressRefusal {
  if (error instanceof PitwallError) {
    // The VM is there; what should listen in it is not.
    const status = error.reason === "TARGET_REFUSED" ? 502 : (httpStatus[error.fault] ?? 502);
    return { status, words: error.fault === "internal" ? "internal error" : error.message };
  }
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ERR_UNESCAPED_CHARACTERS" || code === "ERR_INVALID_CHAR") return { status: 400, words: "the request cannot be passed on" };
  if (code.startsWith("HPE_")) return ingressRefusal(notHttp());
  return { status: 502, words: "the VM's port closed the connection before it had answered" };
}
