import { expect, it } from "vitest";
import { deadlineOf, unaryLimitMs } from "./deadlines.ts";

it.each([
  ["/pitwall.v1.VmService/GetVm", undefined, unaryLimitMs],
  ["/pitwall.v1.VmService/GetVm", 90_000, unaryLimitMs],
  ["/pitwall.v1.VmService/GetVm", 250, 250],
  ["/pitwall.v1.GuestService/StatFile", undefined, unaryLimitMs],
  ["/pitwall.v1.SessionService/ListSessions", undefined, unaryLimitMs],
  ["/pitwall.v1.SessionService/ReadRecording", undefined, undefined],
  ["/pitwall.v1.VmService/WaitVm", undefined, undefined],
  ["/pitwall.v1.VmService/WaitVm", 600_000, 600_000],
  ["/pitwall.v1.VmService/WatchVms", undefined, undefined],
  ["/pitwall.v1.GuestService/WriteFile", undefined, undefined],
  ["/grpc.health.v1.Health/Watch", undefined, undefined],
])("%s, asked for within %s ms, has %s", (path, asked, has) => expect(deadlineOf(path, asked)).toBe(has));
