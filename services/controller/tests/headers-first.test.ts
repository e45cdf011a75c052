// The API port decides by a call's headers who may call: nothing is read for whoever may not, and little for what anybody may call.
import { readFile } from "node:fs/promises";
import { connect, type ClientHttp2Session, type IncomingHttpHeaders } from "node:http2";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startControllers, type TestControllers } from "./support/controllers.ts";
import { FrameClient } from "./support/frames.ts";

let pitwall: TestControllers;
let session: ClientHttp2Session;

beforeAll(async () => {
  pitwall = await startControllers(1);
  const ca = await readFile(join(pitwall.dir, "controller-0", "bootstrap", "ca.pem"));
  session = connect(`https://${pitwall.controllers[0]?.api}`, { ca });
});
afterAll(async () => {
  session?.destroy();
  await pitwall?.[Symbol.asyncDispose]();
});

/** The answer to a call of which no more than this is said; unless it is whole its body is never ended. */
async function answerTo(
  path: string,
  headers: Readonly<Record<string, string>>,
  body?: Buffer,
  isWhole = false,
): Promise<IncomingHttpHeaders> {
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...headers });
  if (body) stream.write(body);
  if (isWhole) stream.end();
  const answer = new Promise<IncomingHttpHeaders>((resolve, reject) => {
    stream.once("response", (said) => said["grpc-status"] !== undefined && resolve(said));
    stream.once("trailers", resolve);
    stream.once("error", reject);
  });
  try {
    return await Promise.race([
      answer,
      sleep(10_000).then(() => {
        throw new Error("no answer came");
      }),
    ]);
  } finally {
    stream.resume().destroy();
  }
}

function message(bytes: number): Buffer {
  const all = Buffer.alloc(5 + bytes);
  all.writeUInt32BE(bytes, 1);
  return all;
}

describe("a call is refused before any of its request has come", () => {
  it.each([
    ["without a token", {}, "16", "TOKEN_MISSING"],
    ["with a damaged JWT", { authorization: "Bearer a.b.c" }, "16", "TOKEN_INVALID"],
    ["with an API token that there is not", { authorization: `Bearer pwt_${"0".repeat(16)}_${"A".repeat(43)}` }, "16", "TOKEN_INVALID"],
    ["by another call's name", { "pitwall-caller-internal": "1" }, "16", "TOKEN_MISSING"],
  ])("%s", async (_, headers, status, reason) => {
    const said = await answerTo("/pitwall.v1.VmService/CreateVm", headers);
    expect(said["grpc-status"]).toBe(status);
    expect(Buffer.from(String(said["grpc-status-details-bin"]), "base64").toString("latin1")).toContain(reason);
  });

  it("by somebody who is no administrator", async () => {
    const authorization = `Bearer ${await pitwall.token("ada")}`;
    expect(await answerTo("/pitwall.v1.NodeService/CreateJoinToken", { authorization })).toMatchObject({ "grpc-status": "7" });
  });
});

describe("what anybody may call", () => {
  it.each(["/grpc.health.v1.Health/Check", "/pitwall.v1.EnrollService/Join"])(
    "takes no message of more than 16 KiB: %s",
    async (path) => {
      expect(await answerTo(path, {}, message(16 * 1024 + 1).subarray(0, 5))).toMatchObject({ "grpc-status": "8" });
      expect((await answerTo(path, {}, message(0), true))["grpc-status"]).not.toBe("8");
    },
    30_000,
  );
});

it("bytes that come one by one cost whoever may not call no memory", { timeout: 60_000 }, async () => {
  const before = process.memoryUsage().rss;
  let most = before;
  const looking = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
  try {
    using hostile = new FrameClient(pitwall.controllers[0]?.api ?? "");
    hostile.begin("/pitwall.v1.VmService/CreateVm", { authorization: "Bearer a.b.c" });
    await hostile.drip(1_200_000);
    expect(hostile.answers.length).toBeGreaterThan(0);
  } finally {
    clearInterval(looking);
  }
  expect((most - before) / 2 ** 20).toBeLessThan(32);
});
