// Text that others wrote, made safe for a terminal: no escape sequence and no control character of theirs reaches it.
import { stripVTControlCharacters } from "node:util";

// Line breaks and tabs are white space and become a blank first. Others: C0, DEL, C1, and marks that reorder or hide text.
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const unprintable = /[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
// oxlint-disable-next-line no-control-regex -- the same, but for what formats text
const unprintableInLogs = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** One line of a name or message, for tables and sentences. */
export function plain(text: string): string {
  return stripVTControlCharacters(text.replaceAll(/\s+/g, " ")).replaceAll(unprintable, "");
}

/** The same for JSON text: an escape in place of each character that JSON lets through and a terminal may act on. The value stays the same. */
export function plainJson(json: string): string {
  return json.replaceAll(
    /[\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Makes bytes of a log safe as they come: lines, tabs and colours stay (`keepColours`), all else that a terminal would act on goes. */
export class LogText {
  readonly #decoder = new TextDecoder();
  readonly #keepColours: boolean;
  /** An escape sequence whose end has not come yet. */
  #held = "";

  constructor(keepColours: boolean) {
    this.#keepColours = keepColours;
  }

  push(bytes: Uint8Array): string {
    const text = this.#held + this.#decoder.decode(bytes, { stream: true });
    // oxlint-disable-next-line no-control-regex -- the beginning of an escape sequence
    const at = text.search(/\u001b(?:\[[0-9;:?]{0,64})?$/);
    this.#held = at < 0 ? "" : text.slice(at);
    const whole = at < 0 ? text : text.slice(0, at);
    // oxlint-disable-next-line no-control-regex -- colours are SGR sequences; all others are dropped
    const parts = whole.split(/(\u001b\[[0-9;:]*m)/);
    return parts
      .map((part, index) =>
        index % 2 === 1 ? (this.#keepColours ? part : "") : stripVTControlCharacters(part).replaceAll(unprintableInLogs, ""),
      )
      .join("");
  }
}
