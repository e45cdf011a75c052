import { expect, test } from "vitest";
import type { Format } from "./format.ts";
import { LiveList } from "./live.ts";
import { table } from "./table.ts";

interface Thing {
  readonly id: string;
  readonly state: string;
}

function open(format: Format, outIsTerminal: boolean): { readonly list: LiveList<Thing>; readonly said: string[] } {
  const said: string[] = [];
  const list = new LiveList<Thing>({
    ...{ format, idOf: ({ id }) => id },
    shell: { outIsTerminal, out: (text) => void said.push(String(text)) },
    view: (things) => ({
      table: () =>
        table(
          ["ID", "STATE"],
          things.map(({ id, state }) => [id, state]),
        ),
      json: things,
      names: things.map(({ id }) => id),
    }),
    goneJson: (json) => ({ removed: json }),
  });
  return { list, said };
}

async function play(list: LiveList<Thing>): Promise<void> {
  await list.change({ id: "a", state: "up" }, { isGone: false });
  await list.change({ id: "b", state: "\u001b[2Jup" }, { isGone: false });
  await list.synced();
  await list.change({ id: "b", state: "down" }, { isGone: false });
  await list.change({ id: "a", state: "up" }, { isGone: true });
}

test("on a terminal it is drawn once all is there, and anew with each change", async () => {
  const { list, said } = open("table", true);
  await play(list);
  expect(said.filter((text) => !text.startsWith("\u001b"))).toEqual([
    "ID  STATE\na   up\nb   up\n",
    "ID  STATE\na   up\nb   down\n",
    "ID  STATE\nb   down\n",
  ]);
});

test("elsewhere each change is a line, for people or for programs", async () => {
  const people = open("table", false);
  await play(people.list);
  expect(people.said).toEqual(["+ a   up\n", "+ b   up\n", "+ b   down\n", "- a   up\n"]);
  const programs = open("json", true);
  await play(programs.list);
  const lines = programs.said.map((line) => JSON.parse(line) as unknown);
  expect(lines.at(-2)).toEqual({ id: "b", state: "down" });
  expect(lines.at(-1)).toEqual({ removed: { id: "a", state: "up" } });
});
