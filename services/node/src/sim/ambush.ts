// What waits for somebody at a failpoint: it happens when the place is passed next, once.
import type { StepName } from "@pitwall/runtime";

/** One thing at a time: what is laid later takes the place of what has not happened yet. */
export class Ambush {
  #armed: { readonly step: StepName; readonly strike: () => void } | undefined;

  /** Disposed of before, it does not happen any more. */
  lay(step: StepName, strike: () => void): Disposable {
    const armed = { step, strike };
    this.#armed = armed;
    return {
      [Symbol.dispose]: () => {
        if (this.#armed === armed) this.#armed = undefined;
      },
    };
  }

  passed(step: StepName): void {
    if (this.#armed?.step !== step) return;
    const { strike } = this.#armed;
    this.#armed = undefined;
    strike();
  }
}
