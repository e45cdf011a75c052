import { ClientError, Status } from "nice-grpc";
import { expect, test } from "vitest";
import { fromRpc } from "./controller-link.ts";

test.each([
  [Status.UNAVAILABLE, "unavailable", "the controller cannot be reached right now; try again"],
  [Status.CANCELLED, "unavailable", "the controller cannot be reached right now; try again"],
  [Status.NOT_FOUND, "not-found", "no such VM"],
  [Status.UNKNOWN, "internal", "no such VM"],
])("a controller's status %d is %s to whoever asked", (code, fault, message) => {
  expect(fromRpc(new ClientError("/a.B/C", code, "no such VM"))).toMatchObject({ fault, message });
});
