// Lists that go on with what changes: on a terminal drawn anew each time, elsewhere a line for each change.
import type { Shell } from "../shell.ts";
import { show, type Format, type View } from "./format.ts";
import { plain, plainJson } from "./terminal-text.ts";

export interface LiveOptions<T> {
  readonly shell: Pick<Shell, "out" | "outIsTerminal">;
  readonly format: Format;
  readonly idOf: (item: T) => string;
  /** All of them, as the command without --watch shows them. */
  readonly view: (items: readonly T[]) => View;
  /** As programs read one that is gone, if that does not say so itself. */
  readonly goneJson?: (json: unknown) => unknown;
}

/** Home, and nothing behind what is drawn from there. */
const clear = "\u001b[H\u001b[2J";

export class LiveList<T> {
  readonly #options: LiveOptions<T>;
  readonly #items = new Map<string, T>();
  #isSynced = false;

  constructor(options: LiveOptions<T>) {
    this.#options = options;
  }

  /** All that there was at the begin has come. */
  async synced(): Promise<void> {
    this.#isSynced = true;
    if (this.#isDrawn) await this.#draw();
  }

  async change(item: T, { isGone }: { readonly isGone: boolean }): Promise<void> {
    const { idOf } = this.#options;
    if (isGone) this.#items.delete(idOf(item));
    else this.#items.set(idOf(item), item);
    if (!this.#isDrawn) this.#say(item, isGone);
    else if (this.#isSynced) await this.#draw();
  }

  get #isDrawn(): boolean {
    return this.#options.shell.outIsTerminal && this.#options.format === "table";
  }

  async #draw(): Promise<void> {
    const { shell, format, view } = this.#options;
    shell.out(clear);
    await show(shell, format, view([...this.#items.values()]));
  }

  #say(item: T, isGone: boolean): void {
    const { shell, format, view, goneJson = (json) => json } = this.#options;
    const one = view([item]);
    const [json] = Array.isArray(one.json) ? (one.json as unknown[]) : [one.json];
    if (format === "name") shell.out(`${plain(one.names[0] ?? "")}\n`);
    else if (format === "table") shell.out(`${isGone ? "- " : "+ "}${one.table().trimEnd().split("\n").at(-1) ?? ""}\n`);
    else shell.out(`${plainJson(JSON.stringify(isGone ? goneJson(json) : json))}\n`); // a line is YAML, too
  }
}
