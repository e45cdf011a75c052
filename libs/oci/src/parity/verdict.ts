// The words of the parity contract.

/**
 * `honoured`: as a container runtime does. `adapted`: the same purpose, reached in another way, which `why` tells.
 * `ignored`: nothing is made of it.
 */
export type Parity = "honoured" | "adapted" | "ignored";

export interface FieldVerdict {
  /** As the image configuration spells it, dotted: `config.Entrypoint`. */
  readonly field: string;
  /** JSON; empty when the image does not set the field. */
  readonly value: string;
  readonly parity: Parity;
  /** A sentence. */
  readonly why: string;
}
