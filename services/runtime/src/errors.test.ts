import { Status } from "nice-grpc";
import { expect, it } from "vitest";
import { PitwallError, invalid, messageChain, statusOf } from "./errors.ts";
import { toServerError } from "./rpc-boundary.ts";

it("names the field in bad input", () => {
  const error = invalid("spec.mem_bytes", "expected at least 64 MiB, got 3");
  expect(error.message).toBe("spec.mem_bytes: expected at least 64 MiB, got 3");
  expect(toServerError(error)).toMatchObject({
    code: Status.INVALID_ARGUMENT,
    extra: [{ reason: "INVALID_FIELD" }, { fieldViolations: [{ field: "spec.mem_bytes" }] }],
  });
});

it("maps no two meanings that callers treat differently to one status", () => {
  expect(new Set(Object.values(statusOf)).size).toBe(Object.keys(statusOf).length);
});

it("tells causes once each, outermost first", () => {
  const cause = new Error("connection refused");
  expect(
    messageChain(new PitwallError("unavailable", "registry did not answer", { cause: new Error("connection refused", { cause }) })),
  ).toBe("registry did not answer: connection refused");
});
