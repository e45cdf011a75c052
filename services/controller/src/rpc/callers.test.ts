import { PitwallError, silentLog } from "@pitwall/runtime";
import { HealthDefinition, HealthServiceImpl, HealthState } from "nice-grpc-server-health";
import { ChannelCredentials, createChannel, createClient, createServer } from "nice-grpc";
import { expect, it } from "vitest";
import type { Principal } from "../projects/principal.ts";
import { callerInterceptor, callerKey, Callers } from "./callers.ts";
import { OpenCalls } from "./draining.ts";

const ada: Principal = { subject: "ada", username: "ada", isAdmin: false, token: undefined };

it("who was let in is forgotten when their call is over, whether its handler has asked for them or not", async () => {
  const callers = new Callers();
  const seen: unknown[] = [];
  let isLetIn = true;
  const admit = async (): Promise<Principal> => {
    if (!isLetIn) throw new PitwallError("denied", "not you", { reason: "NOT_YOU" });
    return ada;
  };
  const server = createServer({ interceptors: [callerInterceptor({ admit, callers, open: new OpenCalls(), log: silentLog })] });
  server.add(HealthDefinition, {
    ...HealthServiceImpl(HealthState()),
    check: async (_, { metadata }) => {
      seen.push(metadata.get(callerKey), callers.size);
      return { status: 1 };
    },
  });
  const port = await server.listen("127.0.0.1:0");
  const channel = createChannel(`127.0.0.1:${port}`, ChannelCredentials.createInsecure());
  const health = createClient(HealthDefinition, channel);
  await health.check({ service: "" });
  expect(seen).toEqual(["1", 1]);
  isLetIn = false;
  await expect(health.check({ service: "" })).rejects.toThrow("PERMISSION_DENIED: not you");
  expect(callers.size).toBe(0);
  channel.close();
  await server.shutdown();
});

it("calls that are left when the server stops hear that it does, whatever they wait for, and nothing after that", async () => {
  const [callers, open] = [new Callers(), new OpenCalls()];
  const [admitted, answer] = [Promise.withResolvers<Principal>(), Promise.withResolvers<void>()];
  let asked = 0;
  const admit = async (): Promise<Principal> => (++asked > 1 ? admitted.promise : ada); // the second waits at the door
  let isAnswered = false;
  const server = createServer({ interceptors: [callerInterceptor({ admit, callers, open, log: silentLog })] });
  server.add(HealthDefinition, {
    ...HealthServiceImpl(HealthState()),
    async check() {
      await answer.promise;
      isAnswered = true;
      return { status: 1 };
    },
  });
  const port = await server.listen("127.0.0.1:0");
  const channel = createChannel(`127.0.0.1:${port}`, ChannelCredentials.createInsecure());
  const health = createClient(HealthDefinition, channel);
  const calls = [health.check({ service: "" }), health.check({ service: "" })];
  for (const call of calls) call.catch(() => undefined);
  await expect.poll(() => asked).toBe(2);
  open.end();
  for (const call of calls) await expect(call).rejects.toThrow("UNAVAILABLE: the controller stops");
  await expect(health.check({ service: "" })).rejects.toThrow("UNAVAILABLE: the controller stops");
  answer.resolve();
  admitted.resolve(ada);
  await expect.poll(() => isAnswered).toBe(true);
  expect(callers.size).toBe(0);
  channel.close();
  await server.shutdown();
});

it("each is known once", () => {
  const callers = new Callers();
  const id = callers.put(ada);
  expect([callers.take(undefined), callers.take("2"), callers.take(id), callers.take(id)]).toEqual([undefined, undefined, ada, undefined]);
});
