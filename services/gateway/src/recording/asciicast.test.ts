import { expect, test } from "vitest";
import { headerLine, markerLine, outputLine, resizeLine } from "./asciicast.ts";

const header = { columns: 80, rows: 24, atSeconds: 1_700_000_000, command: "", term: "", title: "web" };

test("a header has what there is", () => {
  expect(headerLine(header)).toBe('{"version":2,"width":80,"height":24,"timestamp":1700000000,"title":"web"}\n');
  expect(JSON.parse(headerLine({ ...header, command: "ls -l", term: "xterm" }))).toMatchObject({
    command: "ls -l",
    env: { TERM: "xterm" },
  });
});

test("an event is one line, whatever it shows", () => {
  const shown = 'a\n"b"\r\u001b[0m\u2028\u0000';
  const line = outputLine(1.23456789, shown);
  expect(line.split("\n")).toHaveLength(2);
  expect(JSON.parse(line)).toEqual([1.234568, "o", shown]);
  expect(resizeLine(2, 132, 50)).toBe('[2,"r","132x50"]\n');
  expect(markerLine(3, "exit code 0")).toBe('[3,"m","exit code 0"]\n');
});
