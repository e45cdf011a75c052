import { describe, expect, it } from "vitest";
import { parseForward, parsePort } from "./forward.ts";

describe("a forward", () => {
  it.each([
    ["80", { local: 80, remote: 80 }],
    ["8080:80", { local: 8080, remote: 80 }],
    [":80", { local: 0, remote: 80 }],
    ["0:80", { local: 0, remote: 80 }],
  ])("%s is %j", (text, expected) => expect(parseForward(text)).toEqual(expected));

  it.each(["", "0", "80:0", "80:", "65536", "65536:80", "a:80", "1:2:3", "80 "])("%j is none", (text) =>
    expect(() => parseForward(text)).toThrow("Expected PORT, LOCAL:PORT or :PORT"),
  );
});

it.each(["", "0", "65536", "80x"])("%j is no port", (text) => expect(() => parsePort(text)).toThrow("Expected a port"));
