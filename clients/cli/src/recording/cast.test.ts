import { expect, test } from "vitest";
import { castEvents, type CastEvent } from "./cast.ts";

async function read(text: string, step = text.length): Promise<CastEvent[]> {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
  }
  const events: CastEvent[] = [];
  for await (const event of castEvents(pieces())) events.push(event);
  return events;
}

const header = '{"version":2,"width":80,"height":24}\n';

test("events come in their order, however the bytes are cut", async () => {
  const text = `${header}[0.5,"o","grö"]\n[1,"r","100x30"]\n[2,"m","exit code 0"]\n`;
  const events = [
    { seconds: 0.5, code: "o", data: "grö" },
    { seconds: 1, code: "r", data: "100x30" },
    { seconds: 2, code: "m", data: "exit code 0" },
  ];
  expect(await read(text)).toEqual(events);
  expect(await read(text, 1)).toEqual(events);
});

test("a recording that was cut has what came", async () => {
  expect(await read(`${header}[0,"o","a"]\n[1,"o","b`)).toEqual([{ seconds: 0, code: "o", data: "a" }]);
});

test.each([
  ['{"version":1}\n', "no asciicast of version 2"],
  ["[]\n", "no asciicast of version 2"],
  ["x\n", "no JSON"],
  [`${header}{}\n`, "no event"],
  [`${header}["a","o","b"]\n`, "no event"],
  [`${header}[1e999,"o"]\n`, "no event"],
])("%j is refused", async (text, why) => {
  await expect(read(text)).rejects.toThrow(why);
});
