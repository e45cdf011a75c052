// What a terminal once showed, for a terminal that shows it again: what draws on the screen passes, and nothing that makes a terminal do
// something else, such as answer, write to the clipboard, print, or change what keys mean. No I/O.
//
// State: a control sequence whose end has not come yet, and what of the terminal must be put back at the end. The grammar is ECMA-48's, as
// xterm reads it; what is not known here is dropped.

type State = "ground" | "escape" | "charset" | "csi" | "string" | "string-escape";

/** Marks that reorder text, DEL and C1 controls. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const unprintable = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
/** Backspace, tab, line feed, return, and the two that choose between character sets. */
const controls: ReadonlySet<string> = new Set(["\b", "\t", "\n", "\r", "\u000e", "\u000f"]);
/** Save and restore the cursor; move it by a line. */
const escapes: ReadonlySet<string> = new Set(["7", "8", "D", "E", "M"]);
/** ASCII, British, line drawing. */
const charsets: ReadonlySet<string> = new Set(["B", "A", "0"]);
/** Cursor, erasing, inserting and deleting, scrolling, colours; not `c`, which asks the terminal what it is. */
const drawing = /^[0-9;:]*[@A-HJ-MPSTXZ`abdefmrsu]$/;
const plainModes: ReadonlySet<string> = new Set(["4"]);
/** Origin, wrapping, blinking, the cursor, and the other screen. */
const privateModes: ReadonlySet<string> = new Set(["6", "7", "12", "25", "47", "1047", "1048", "1049"]);
const otherScreens: ReadonlySet<string> = new Set(["47", "1047", "1049"]);
const maxSequence = 64;

export class ScreenText {
  #state: State = "ground";
  #sequence = "";
  /** By which mode the other screen is shown. */
  #screen: string | undefined;
  #hasRegion = false;

  /** Safe text; a sequence comes whole, with the piece that ends it. */
  push(text: string): string {
    let safe = "";
    for (const char of text) safe += this.#take(char);
    return safe;
  }

  /** Puts back what the text may have left: colours, modes, the screen. */
  reset(): string {
    const region = this.#hasRegion ? "\u001b7\u001b[r\u001b8" : "";
    const screen = this.#screen === undefined ? "" : `\u001b[?${this.#screen}l`;
    this.#state = "ground";
    return `${region}${screen}\u001b[0m\u001b(B\u000f\u001b[4l\u001b[?6l\u001b[?7h\u001b[?25h`;
  }

  #take(char: string): string {
    // Cancel and substitute end any sequence; an escape begins a new one, but in a string, where it may be the end of it.
    if (char === "\u0018" || char === "\u001a") return this.#to("ground");
    if (char === "\u001b") return this.#to(this.#state === "string" ? "string-escape" : "escape");
    switch (this.#state) {
      case "ground":
        return isShown(char) ? char : "";
      case "escape":
        return this.#escape(char);
      case "charset":
        return this.#to("ground", this.#sequence !== "" && charsets.has(char) ? `\u001b${this.#sequence}${char}` : "");
      case "csi":
        return this.#csi(char);
      case "string":
        return char === "\u0007" || char === "\u009c" ? this.#to("ground") : "";
      case "string-escape":
        return char === "\\" ? this.#to("ground") : this.#escape(char);
    }
  }

  #to(state: State, text = ""): string {
    this.#state = state;
    return text;
  }

  #escape(char: string): string {
    this.#sequence = "";
    if (char === "[") return this.#to("csi");
    // Device control, start of string, operating system command, privacy message, application: all go on until their end.
    if ("PX]^_".includes(char)) return this.#to("string");
    if ("()".includes(char)) {
      this.#sequence = char;
      return this.#to("charset");
    }
    if (" #%*+-./".includes(char)) return this.#to("charset"); // one more byte, and nothing of it passes
    return this.#to("ground", escapes.has(char) ? `\u001b${char}` : "");
  }

  #csi(char: string): string {
    if (char < " ") return controls.has(char) ? char : ""; // they act in the middle of a sequence, too
    this.#sequence += char;
    if (char < "@" || char > "~") return this.#sequence.length > maxSequence ? this.#to("ground") : "";
    return this.#to("ground", this.#safe(this.#sequence));
  }

  #safe(sequence: string): string {
    const final = sequence.at(-1);
    if (final === "h" || final === "l") return this.#modes(sequence, final);
    if (!drawing.test(sequence)) return "";
    if (final === "r") this.#hasRegion = true;
    return `\u001b[${sequence}`;
  }

  #modes(sequence: string, final: "h" | "l"): string {
    const [, mark = "", list = ""] = /^(\??)([0-9;]*)[hl]$/.exec(sequence) ?? [];
    const known = list.split(";").filter((mode) => (mark === "" ? plainModes : privateModes).has(mode));
    if (known.length === 0) return "";
    const screen = mark === "?" ? known.find((mode) => otherScreens.has(mode)) : undefined;
    if (screen !== undefined) this.#screen = final === "h" ? screen : undefined;
    return `\u001b[${mark}${known.join(";")}${final}`;
  }
}

function isShown(char: string): boolean {
  return char >= " " ? !unprintable.test(char) : controls.has(char);
}
