import { describe, expect, it, test } from "vitest";
import { ScreenText } from "./screen-text.ts";

const esc = "\u001b";
const shown = (text: string): string => new ScreenText().push(text);

test("what draws passes", () => {
  const drawn = `${esc}[2J${esc}[1;1H${esc}[1;38:5:12mred${esc}[0m\r\n${esc}[K${esc}[?1049h${esc}[?25l${esc}(0qqq${esc}(B${esc}7${esc}8\b\t日`;
  expect(shown(drawn)).toBe(drawn);
});

describe("what makes a terminal do something else is dropped", () => {
  it.each([
    ["the clipboard", `${esc}]52;c;aGk=\u0007`],
    ["a title, ended by a string terminator", `${esc}]0;title${esc}\\`],
    ["a hyperlink", `${esc}]8;;http://x.example${esc}\\`],
    ["device control", `${esc}P$q"p${esc}\\`],
    ["an application's command", `${esc}_Gf=100;AAAA${esc}\\`],
    ["a question for the cursor", `${esc}[6n`],
    ["a question for the terminal's kind", `${esc}[c${esc}[>c${esc}[=c${esc}Z`],
    ["a question for the title", `${esc}[21t`],
    ["a question for a mode", `${esc}[?2026$p`],
    ["printing", `${esc}[5i`],
    ["mouse, focus and pasting", `${esc}[?1000h${esc}[?1006h${esc}[?1004h${esc}[?2004h`],
    ["what keys mean", `${esc}=${esc}>${esc}[?1h${esc}[>4;2m${esc}[>1u`],
    ["a reset", `${esc}c${esc}[!p`],
    ["another character set", `${esc}%G${esc}*B${esc}#8`],
    ["C1 controls, of which the rest is text", "\u009b2J\u009d0;x\u009c", "2J0;x"],
    ["marks that reorder text", "\u202e\u2066\u200f"],
    ["bells and the like", "\u0007\u0000\u0005\u000b\u007f"],
    ["a sequence that is too long, of which the rest is text", `${esc}[${"1;".repeat(33)}`, ";"],
  ])("%s", (_, text, left = "") => expect(shown(`a${text}b`)).toBe(`a${left}b`));
});

test("of several modes those pass that are known", () => expect(shown(`${esc}[?25;1000;7l`)).toBe(`${esc}[?25;7l`));

test("a control inside a sequence acts before it", () => expect(shown(`${esc}[1\r;1H`)).toBe(`\r${esc}[1;1H`));

test("an escape inside a sequence begins another", () => expect(shown(`${esc}[1${esc}[31mx`)).toBe(`${esc}[31mx`));

test("a string cannot be ended early to let its rest through as a sequence", () => {
  expect(shown(`${esc}]0;${esc}]52;c;x\u0007y`)).toBe("y");
  expect(shown(`${esc}]0;a\u0018b`)).toBe("b");
});

test("all is the same however it is cut", () => {
  const text = `a${esc}[31mr${esc}]52;c;aGk=${esc}\\d${esc}[6n${esc}(0q${esc}(B${esc}[?1049;1000h日`;
  const screen = new ScreenText();
  expect(Array.from(text, (char) => screen.push(char)).join("")).toBe(shown(text));
});

test("nothing but what it lets through reaches a terminal, whatever comes", () => {
  // All sequences of an introducer and up to two bytes: what passes is read as what is known to draw.
  const harmless =
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    /^(?:[\b\t\n\r\u000e\u000f\u0020-\u007e]|\u001b(?:[78DEM]|[()][AB0]|\[[0-9;:]*[@A-HJ-MPSTXZ`abdefmrsu]|\[4[hl]|\[\?[67][hl]))*$/;
  const bytes = Array.from({ length: 160 }, (_, code) => String.fromCharCode(code));
  const passed = [esc, `${esc}[`, `${esc}[?`, `${esc}]`, `${esc}P`].flatMap((introducer) =>
    bytes.flatMap((one) => bytes.map((two) => shown(`${introducer}${one}${two}x${esc}\\`))),
  );
  expect(passed).toHaveLength(5 * bytes.length ** 2);
  expect(passed.filter((text) => !harmless.test(text))).toEqual([]);
});

test("a reset puts back the screen that it left", () => {
  const screen = new ScreenText();
  screen.push(`${esc}[?1049h${esc}[2;5r`);
  expect(screen.reset()).toContain(`${esc}[r`);
  expect(screen.reset()).toContain(`${esc}[?1049l`);
  expect(new ScreenText().reset()).not.toContain("1049");
});
