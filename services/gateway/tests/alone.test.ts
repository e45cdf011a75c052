// A gateway that runs alone, as a process: how it starts, what it refuses, how it ends.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { expect, it } from "vitest";
import { startLoneGateway } from "./support/children.ts";
import { call, openUpstream } from "./support/upstream.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");

async function refusal(env: NodeJS.ProcessEnv): Promise<{ code: unknown; said: string }> {
  const child = spawn(process.execPath, [main], { env: { PATH: process.env["PATH"], ...env }, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  const [code] = (await once(child, "close")) as [unknown];
  return { code, said: said.split("\n").find((line) => line.startsWith("error:")) ?? said };
}

it("prints its port as a line of JSON, serves, and ends with 0 on SIGTERM", async () => {
  await using upstream = await openUpstream((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.from([0, 0, 0, 0, 1, 7]));
  });
  await using gateway = await startLoneGateway(upstream.port);
  expect(JSON.parse(gateway.line)).toEqual({ ready: true, port: gateway.port, web: gateway.port });
  const { status, body } = await call(gateway.port, Buffer.from([0, 0, 0, 0, 0]));
  expect({ status, body: body.toString("latin1") }).toEqual({ status: 200, body: "\0\0\0\0\x01\x07\x80\0\0\0\x10grpc-status: 0\r\n" });
  const idle = connect(gateway.port, "127.0.0.1");
  idle.on("error", () => undefined);
  await once(idle, "connect");
  expect(await gateway.stop()).toBe(0);
  idle.destroy();
});

it.each([
  [
    "other addresses than loopback",
    { PITWALL_UPSTREAM: "127.0.0.1:1", PITWALL_INSECURE_NO_AUTH: "true", PITWALL_LISTEN: "0.0.0.0:0" },
    "error: configuration: PITWALL_LISTEN: must be a loopback address: nobody is asked for a token here",
  ],
  [
    "upstreams elsewhere",
    { PITWALL_UPSTREAM: "192.0.2.1:80", PITWALL_INSECURE_NO_AUTH: "true" },
    "error: configuration: PITWALL_UPSTREAM: must be a loopback address: nobody is asked for a token here",
  ],
  [
    "to ask for no token without being told so",
    { PITWALL_UPSTREAM: "127.0.0.1:1" },
    "error: configuration: PITWALL_UPSTREAM: whoever reaches this gateway reaches the upstream, without a token: say --insecure-no-auth (PITWALL_INSECURE_NO_AUTH=true) if that is meant",
  ],
  [
    "to ask for no token in front of an installation",
    { PITWALL_INSECURE_NO_AUTH: "true", PITWALL_ISSUER: "http://127.0.0.1:9" },
    "error: configuration: PITWALL_UPSTREAM: is required",
  ],
])("refuses %s", async (_, env, words) => {
  expect(await refusal(env)).toEqual({ code: 2, said: words });
});

it("has a port of its own for operations: ready while its upstream answers, and what was called", async () => {
  const upstream = await openUpstream((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "0" }, { endStream: true });
  });
  await using gateway = await startLoneGateway(upstream.port, ["--ops-listen", "127.0.0.1:0"]);
  const { ops } = JSON.parse(gateway.line) as { ops: number };
  const get = async (path: string): Promise<[number, string]> => {
    const answer = await fetch(`http://127.0.0.1:${ops}${path}`);
    return [answer.status, await answer.text()];
  };
  expect(await get("/healthz")).toEqual([200, "ok\n"]);
  expect(await get("/readyz")).toEqual([200, "ready\n"]);
  await call(gateway.port, Buffer.from([0, 0, 0, 0, 0]));
  const lines = (await get("/metrics"))[1].split("\n");
  expect(lines).toContain('pitwall_gateway_calls_total{protocol="grpc-web",method="/a.B/C",code="0"} 1');
  expect(lines).toContain('pitwall_gateway_answer_seconds_count{protocol="grpc-web"} 1');
  expect(lines).toContain("pitwall_gateway_calls 0");
  await upstream[Symbol.asyncDispose]();
  const [status, why] = await get("/readyz");
  expect([status, why]).toEqual([503, expect.stringMatching(/^the upstream cannot be reached right now; try again: /)]);
});
