// What a gateway's first process and its workers tell each other.
import type { ControllerAddress, TlsIdentity } from "@pitwall/enroll";
import type { EndedSession } from "@pitwall/proto/pitwall/v1/access.ts";
import type { Offence } from "../penalties.ts";

/** What all processes of a gateway are to the controllers. */
export interface Membership {
  readonly id: string;
  readonly name: string;
  readonly tls: TlsIdentity;
  readonly controllers: readonly ControllerAddress[];
}

export interface OffenceOf {
  readonly source: string;
  readonly offence: Offence;
}

export type FromWorker =
  /** It listens to what it is told. Answered with `member`, if the gateway belongs to an installation. */
  | { readonly kind: "hello" }
  /** It serves. */
  | { readonly kind: "ready"; readonly ready: Ready }
  /** A controller told it where all of them are. */
  | { readonly kind: "learnt"; readonly controllers: readonly ControllerAddress[] }
  /** May ways into VMs be opened? Answered with `greeted`. */
  | { readonly kind: "greet" }
  | { readonly kind: "begun"; readonly sessionId: string }
  | { readonly kind: "ended"; readonly session: EndedSession }
  /** One that was begun, and that the controller does not know of. */
  | { readonly kind: "dropped"; readonly sessionId: string }
  | { readonly kind: "offence"; readonly of: OffenceOf };

export type ToWorker =
  /** At first, and after each change. */
  | { readonly kind: "member"; readonly member: Membership }
  | { readonly kind: "greeted"; readonly refusal: string | undefined }
  /** Another worker's. */
  | { readonly kind: "offence"; readonly of: OffenceOf };

/** What a process that serves prints: ports, and what else a launcher wants to know. */
export type Ready = Readonly<Record<string, unknown>>;

/** Offences of SSH clients count in all workers. */
export interface Offences {
  tell(of: OffenceOf): void;
  onOther(listener: (of: OffenceOf) => void): void;
}

/** A gateway of one process. */
export const ownOffences: Offences = { tell: () => undefined, onOther: () => undefined };
