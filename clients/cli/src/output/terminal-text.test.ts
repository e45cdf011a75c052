import { describe, expect, test } from "vitest";
import { LogText, plain, plainJson } from "./terminal-text.ts";

const esc = "\u001b";

describe("a name or message", () => {
  test("loses escape sequences and control characters", () => {
    expect(plain(`${esc}[31mred${esc}[0m ${esc}]0;title\u0007bell\u0007 \u009b2Jc1`)).toBe("red bell c1");
  });
  test("stays on its line", () => expect(plain("a\nb\r\nc\td")).toBe("a b c d"));
  test("cannot reorder or hide text", () => expect(plain("a\u202eb\u200bc\u2066d")).toBe("abcd"));
  test("keeps letters of all scripts", () => expect(plain("größe 日本 🙂")).toBe("größe 日本 🙂"));
});

describe("JSON", () => {
  test("has escapes in place of what a terminal acts on, and the same value", () => {
    const value = { name: `${esc}[2J\u009b2J\u007f\u202e` };
    const safe = plainJson(JSON.stringify(value));
    expect(safe).toMatch(/^[\u0020-\u007e]+$/);
    expect(JSON.parse(safe)).toEqual(value);
  });
});

describe("a log", () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

  test("keeps lines, tabs and colours", () => {
    expect(new LogText(true).push(bytes(`${esc}[1;31mred${esc}[0m\tx\n`))).toBe(`${esc}[1;31mred${esc}[0m\tx\n`);
  });
  test("loses colours where none are wanted", () => expect(new LogText(false).push(bytes(`${esc}[31mred${esc}[0m\n`))).toBe("red\n"));
  test("loses all other sequences", () => {
    expect(new LogText(true).push(bytes(`${esc}[2J${esc}[1;1Hhome${esc}]52;c;aGk=\u0007 ${esc}c\rx\u0000\n`))).toBe("home x\n");
  });
  test("is the same however it is cut", () => {
    const whole = bytes(`a${esc}[31mré${esc}[2Jd${esc}[0m日\n`);
    const log = new LogText(true);
    expect([...whole].map((byte) => log.push(Uint8Array.of(byte))).join("")).toBe(`a${esc}[31mréd${esc}[0m日\n`);
  });
});
