// What wakes a loop: one that waits, whoever rings. A ring while it works is remembered.

export class Bell {
  #wake: () => void = () => undefined;
  #isRung = false;

  ring(): void {
    this.#isRung = true;
    this.#wake();
  }

  /** Forgets what rang before. */
  hush(): void {
    this.#isRung = false;
  }

  /** Resolves with the next ring since the last hush, which may have been already. */
  async heard(): Promise<void> {
    if (!this.#isRung) await this.next();
  }

  /** Resolves with the next ring from now on, or when the signal aborts. */
  async next(signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      signal?.addEventListener("abort", () => resolve(), { once: true });
    });
  }
}
