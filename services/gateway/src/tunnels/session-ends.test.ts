import type { EndedSession } from "@pitwall/proto/pitwall/v1/access.ts";
import { silentLog, toDuration } from "@pitwall/runtime";
import { expect, it } from "vitest";
import type { AccessClient } from "../controller-link.ts";
import { countSessions, openSessionEnds } from "./session-ends.ts";

it(
  "keeps the ends of sessions that were there, however many come to nothing while no controller answers",
  { timeout: 30_000 },
  async () => {
    const told: string[] = [];
    let answers = false;
    const endSessions: AccessClient["endSessions"] = async ({ ended = [] }) => {
      if (!answers) throw new Error("nobody is there");
      told.push(...ended.map(({ sessionId = "" }) => sessionId));
      return {};
    };
    const ends = openSessionEnds(() => ({ endSessions }), silentLog);
    const carried: EndedSession = { sessionId: "carried", toVmBytes: 1n, fromVmBytes: 2n, duration: toDuration(3), lost: false };
    ends.ended(carried);
    const nothing = { toVmBytes: 0n, fromVmBytes: 0n, duration: undefined, lost: false };
    for (let n = 0; n < 120_000; n++) ends.ended({ sessionId: String(n), ...nothing });
    answers = true;
    await expect.poll(() => told.length, { timeout: 20_000 }).toBe(10_001);
    expect(told).toContain("carried");
    await ends[Symbol.asyncDispose]();
  },
);

it("a session that the controller does not know of has no end", () => {
  const said: string[] = [];
  const counted = countSessions(
    ({ sessionId }) => said.push(`ended ${sessionId}`),
    (id) => said.push(`dropped ${id}`),
  );
  const { id, dropped } = counted.begin();
  dropped();
  expect(said).toEqual([`dropped ${id}`]);
});
