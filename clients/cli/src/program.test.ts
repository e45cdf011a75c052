import { expect, test } from "vitest";
import { meantCommand } from "./program.ts";

test("the command that is meant is the first word, or the one that help is asked for", () => {
  expect(meantCommand(["ls", "-o", "json"])).toBe("ls");
  expect(meantCommand(["--help"])).toBeUndefined();
  expect(meantCommand(["help", "run"])).toBe("run");
  expect(meantCommand(["--", "ls"])).toBe("ls");
});
