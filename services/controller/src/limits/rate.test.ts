import { describe, expect, it } from "vitest";
import { RateLimit } from "./rate.ts";

function limited(perSecond: number, burst: number): { take: (key?: string) => string; pass: (ms: number) => void } {
  let nowMs = 0;
  const limit = new RateLimit("reads", { perSecond, burst }, () => nowMs);
  return {
    pass: (ms) => void (nowMs += ms),
    take(key = "ada") {
      try {
        limit.take(key);
        return "ok";
      } catch (error) {
        return error instanceof Error && "retryAfterMs" in error ? String(error.retryAfterMs) : "?";
      }
    },
  };
}

describe("a rate limit", () => {
  it("lets a burst pass, then says how long the next one waits", () => {
    const { take, pass } = limited(2, 3);
    expect([take(), take(), take(), take()]).toEqual(["ok", "ok", "ok", "500"]);
    pass(499);
    expect(take()).toBe("1");
    pass(1);
    expect([take(), take()]).toEqual(["ok", "500"]);
  });

  it("holds at its rate over any time, and refusals cost nothing", () => {
    const { take, pass } = limited(10, 1);
    let passed = 0;
    for (let at = 0; at < 10_000; at += 10) {
      if (take() === "ok") passed++;
      pass(10);
    }
    expect(passed).toBe(100);
  });

  it("counts each principal alone, and never saves up more than the burst", () => {
    const { take, pass } = limited(1, 2);
    expect([take("a"), take("a"), take("a"), take("b")]).toEqual(["ok", "ok", "1000", "ok"]);
    pass(1_000_000);
    expect([take("a"), take("a"), take("a")]).toEqual(["ok", "ok", "1000"]);
  });

  it("of 0 is none", () => {
    const { take } = limited(0, 0);
    expect(Array.from({ length: 1000 }, () => take()).every((answer) => answer === "ok")).toBe(true);
  });
});
