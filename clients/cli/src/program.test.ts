import { Command } from "commander";
import { expect, test } from "vitest";
import { declare as declareImages } from "./commands/images.ts";
import { declare as declareNodes } from "./commands/nodes.ts";
import { meantCommand, openCommand } from "./program.ts";
import type { Shell } from "./shell.ts";

test("the command that is meant is the first word, or the one that help is asked for", () => {
  expect(meantCommand(["ls", "-o", "json"])).toBe("ls");
  expect(meantCommand(["--help"])).toBeUndefined();
  expect(meantCommand(["help", "run"])).toBe("run");
  expect(meantCommand(["--", "ls"])).toBe("ls");
});

test.each([
  ["nodes", declareNodes, ["ls"]],
  ["nodes", declareNodes, ["get", "one"]],
  ["images", declareImages, ["ls"]],
  ["images", declareImages, ["resolve", "alpine"]],
  ["images", declareImages, ["gc"]],
])("an option after a subcommand of %s is the subcommand's", async (name, declare, words) => {
  const command = openCommand(new Command("pitwall"), name);
  declare(command, {} as Shell); // the action below takes the place of those that use it
  if (!command.options.some(({ short }) => short === "-o")) command.option("-o, --output <format>", "as the parent may have it too");
  const chosen = command.commands.find((one) => one.name() === words[0]);
  let seen: unknown;
  chosen?.action(() => {
    seen = chosen.opts()["output"];
  });
  await command.parseAsync([...words, "-o", "json"], { from: "user" });
  expect(seen).toBe("json");
});
