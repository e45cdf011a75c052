import { expect, test } from "vitest";
import { openProgress } from "./progress.ts";

function written(isTerminal: boolean): string {
  let text = "";
  let ms = 0;
  {
    using progress = openProgress({ write: (piece) => void (text += piece), isTerminal, nowMs: () => (ms += 500) });
    progress.step("web: booting");
    progress.step("web: booting");
    progress.step("web: run\u001b[31mning");
  }
  return text;
}

test("off a terminal each step is a line", () => {
  expect(written(false)).toBe("web: booting\nweb: running\n");
});

test("on a terminal one line is overwritten, and empty at the end", () => {
  const clear = "\r\u001b[2K";
  expect(written(true)).toBe(`${clear}web: booting (0.5 s)${clear}web: running (1.0 s)${clear}`);
});
