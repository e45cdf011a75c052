import { Assignment, VmReport } from "@pitwall/proto/pitwall/v1/link.ts";
import { PitwallError } from "@pitwall/runtime";
import { expect, it } from "vitest";
import { decodeEntry, encodeEntry, lacksSecret } from "./journal.ts";

const secret = { registry: "ghcr.io", username: "ada", secret: { $case: "password" as const, value: "hunter2" } };
const denied = new PitwallError("denied", "no");

it("a credential's secret is not written, and its absence is known after a restart", () => {
  const assignment = Assignment.fromPartial({ vmId: "1", generation: 3n, imageCredential: secret });
  const text = encodeEntry({ assignment, report: VmReport.fromPartial({}), process: undefined, booted: 0n, starting: false, bootId: "b" });
  expect(text).not.toMatch(/hunter2|aHVudGVy|ada/);
  const read = decodeEntry("1", text).assignment;
  expect(read).toMatchObject({ vmId: "1", generation: 3n, imageCredential: { registry: "ghcr.io", username: "", secret: undefined } });
  expect(lacksSecret(read, denied)).toBe(true);
  expect(lacksSecret(read, new PitwallError("unavailable", "no"))).toBe(false);
  expect(lacksSecret(assignment, denied)).toBe(false);
  expect(lacksSecret(Assignment.fromPartial({}), denied)).toBe(false);
});
