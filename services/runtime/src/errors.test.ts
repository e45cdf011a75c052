import { Status } from "nice-grpc";
import { QuotaFailure } from "nice-grpc-error-details";
import { Status as RpcStatus } from "nice-grpc-error-details/lib/proto/google/rpc/status.js";
import { expect, it } from "vitest";
import { PitwallError, invalid, messageChain, statusOf } from "./errors.ts";
import { statusDetails, toServerError } from "./rpc-boundary.ts";

it("names the field in bad input", () => {
  const error = invalid("spec.mem_bytes", "expected at least 64 MiB, got 3");
  expect(error.message).toBe("spec.mem_bytes: expected at least 64 MiB, got 3");
  expect(toServerError(error)).toMatchObject({
    code: Status.INVALID_ARGUMENT,
    extra: [{ reason: "INVALID_FIELD" }, { fieldViolations: [{ field: "spec.mem_bytes" }] }],
  });
});

it("says when to try again, and which limits would be exceeded, in the call's details and in the trailer alike", () => {
  const quota = [{ subject: "project/1/vms", description: "limit 2, used 2, wanted 1" }];
  const error = new PitwallError("exhausted", "too much", { reason: "QUOTA", retryAfterMs: 1500, quota });
  expect(toServerError(error)).toMatchObject({
    code: Status.RESOURCE_EXHAUSTED,
    extra: [{ reason: "QUOTA" }, { retryDelay: { seconds: 1, nanos: 5e8 } }, { violations: quota }],
  });
  const { details } = RpcStatus.decode(statusDetails(error));
  expect(details.map(({ typeUrl }) => typeUrl)).toEqual(
    ["ErrorInfo", "RetryInfo", "QuotaFailure"].map((name) => `type.googleapis.com/google.rpc.${name}`),
  );
  expect(QuotaFailure.decode(details[2]?.value ?? new Uint8Array()).violations).toMatchObject(quota);
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
