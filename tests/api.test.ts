// The API as a client sees it that has never heard of Pitwall: gRPC with reflection, gRPC-Web, health, CORS.
import { Phase } from "@pitwall/sdk";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run, type Ended } from "./support/run.ts";
import { startTestStack, type TestStack } from "./support/stack.ts";

let pitwall: TestStack;
let authorization: string;
const vm = "api";

beforeAll(async () => {
  pitwall = await startTestStack();
  authorization = `authorization: Bearer ${await pitwall.stack.token()}`;
  const { vms } = pitwall.stack.client();
  await vms.create({ name: vm, spec: { image: pitwall.image } });
  expect((await vms.wait(vm)).phase).toBe(Phase.PHASE_RUNNING);
});

afterAll(() => pitwall?.[Symbol.asyncDispose]());

const grpc = ["buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"];

/** Calls with a schema that the server itself gave. */
async function curl(path: string, ...options: string[]): Promise<Ended> {
  return run(curlLine(path, ...options));
}

function curlLine(path: string, ...options: string[]): string[] {
  return [...grpc, "--reflect-header", authorization, "-H", authorization, ...options, `${pitwall.stack.endpoint}/${path}`];
}

describe("by reflection", () => {
  it("lists every service that users may call", async () => {
    const { stdout } = await curl("", "--list-services");
    expect(stdout.trim().split("\n")).toEqual(
      [
        "AuditService",
        "GuestService",
        "ImageService",
        "NodeService",
        "ProfileService",
        "ProjectService",
        "SessionService",
        "VmService",
      ].map((name) => `pitwall.v1.${name}`),
    );
  });

  const calls: [method: string, request: string, expected: unknown][] = [
    ["VmService/GetVm", JSON.stringify({ vm }), { vm: { name: vm, phase: "PHASE_RUNNING" } }],
    ["VmService/ListVms", "{}", { vms: [{ name: vm }] }],
    ["VmService/WaitVm", JSON.stringify({ vm }), { vm: { phase: "PHASE_RUNNING" } }],
    ["VmService/StartVm", JSON.stringify({ vm }), { vm: { desired: "DESIRED_RUNNING", generation: "1" } }],
    ["NodeService/ListNodes", "{}", { nodes: [{ state: "NODE_STATE_READY", vmCount: 1 }] }],
    ["NodeService/CreateJoinToken", '{"role":"JOIN_ROLE_NODE"}', { join: expect.stringMatching(/^pitwall-join\.v1\./) as string }],
    ["ProfileService/GetProfile", "{}", { subject: "dev", isAdmin: true }],
    ["ProfileService/ListSshKeys", "{}", { keys: [{ fingerprint: expect.stringMatching(/^SHA256:/) as string }] }],
  ];
  it.each(calls)("calls %s", async (method, request, expected) => {
    const { code, stdout, stderr } = await curl(`pitwall.v1.${method}`, "-d", request);
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject(expected as object);
  });

  it("calls ImageService/ResolveImage", async () => {
    const { stdout } = await curl("pitwall.v1.ImageService/ResolveImage", "-d", JSON.stringify({ image: pitwall.image }));
    expect(JSON.parse(stdout)).toMatchObject({
      digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string,
      config: { cmd: ["nginx", "-g", "daemon off;"], os: "linux" },
    });
  });

  it("calls GuestService/GetStats and, both ways streaming, Exec", async () => {
    const stats = await curl("pitwall.v1.GuestService/GetStats", "-H", `pitwall-vm: ${vm}`, "-d", "{}");
    expect(JSON.parse(stats.stdout)).toMatchObject({ processCount: expect.any(Number) as number });
    const { stdout } = await curl(
      "pitwall.v1.GuestService/Exec",
      "-H",
      `pitwall-vm: ${vm}`,
      "-d",
      '{"start":{"argv":["sh","-c","echo hi; exit 9"]}}',
    );
    expect(stdout.replaceAll(/\s/g, "")).toBe(`{"stdout":"${Buffer.from("hi\n").toString("base64")}"}{"exit":{"code":9}}`);
  });

  it("streams VmService/WatchVms until the caller has enough", async () => {
    const { stdout } = await run(curlLine("pitwall.v1.VmService/WatchVms", "-d", "{}"), { timeoutMs: 2_000 });
    expect(stdout).toContain('"synced": true');
  });
});

describe("without a token", () => {
  it.each([
    "VmService/ListVms",
    "NodeService/ListNodes",
    "ImageService/ResolveImage",
    "ProfileService/GetProfile",
    "GuestService/GetStats",
  ])("%s is UNAUTHENTICATED", async (method) => {
    const { code, stderr } = await run([...grpc, "--schema", "proto", "-d", "{}", `${pitwall.stack.endpoint}/pitwall.v1.${method}`]);
    expect(code).not.toBe(0);
    expect(JSON.parse(stderr)).toMatchObject({
      code: "unauthenticated",
      message: expect.stringContaining("a bearer token is needed") as string,
    });
  });

  it("reflection is UNAUTHENTICATED too", async () => {
    const { code, stderr } = await run([...grpc, "--list-services", pitwall.stack.endpoint]);
    expect(code).not.toBe(0);
    expect(stderr).toContain("not authenticated"); // buf's own words for that status
  });

  it("health answers, for those who watch", async () => {
    const { code } = await run([
      "buf",
      "curl",
      "--protocol",
      "grpc",
      "--http2-prior-knowledge",
      "--schema",
      "tests/support/health.proto",
      "-d",
      "{}",
      `${pitwall.stack.endpoint}/grpc.health.v1.Health/Check`,
    ]);
    expect(code).toBe(0);
    expect((await fetch(`${pitwall.stack.endpoint}/healthz`)).status).toBe(200);
  });
});

describe("with a token that is not right", () => {
  it.each([
    ["garbage", "Bearer garbage"],
    ["of nobody's making", `Bearer ${["eyJhbGciOiJub25lIn0", "eyJzdWIiOiJkZXYifQ", ""].join(".")}`],
    ["of another kind", "Basic ZGV2OmRldg=="],
  ])("%s, calls are UNAUTHENTICATED", async (_, value) => {
    const { stderr } = await run([
      ...grpc,
      "--schema",
      "proto",
      "-H",
      `authorization: ${value}`,
      "-d",
      "{}",
      `${pitwall.stack.endpoint}/pitwall.v1.VmService/ListVms`,
    ]);
    expect(JSON.parse(stderr)).toMatchObject({ code: "unauthenticated" });
  });

  it("changed in one letter of its signature, calls are UNAUTHENTICATED", async () => {
    const token = await pitwall.stack.token();
    const at = token.lastIndexOf(".") + 5;
    const forged = token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
    const { stderr } = await run([
      ...grpc,
      "--schema",
      "proto",
      "-H",
      `authorization: Bearer ${forged}`,
      "-d",
      "{}",
      `${pitwall.stack.endpoint}/pitwall.v1.VmService/ListVms`,
    ]);
    expect(JSON.parse(stderr)).toMatchObject({ code: "unauthenticated" });
  });
});

it("speaks gRPC-Web to a client that is not ours", async () => {
  const { stdout } = await run([
    "buf",
    "curl",
    "--protocol",
    "grpcweb",
    "--schema",
    "proto",
    "-H",
    authorization,
    "-d",
    "{}",
    `${pitwall.stack.endpoint}/pitwall.v1.VmService/ListVms`,
  ]);
  expect(JSON.parse(stdout)).toMatchObject({ vms: [{ name: vm }] });
});

it("does not serve members' services to users", async () => {
  const { stderr } = await run([
    ...grpc,
    "--schema",
    "proto",
    "-H",
    authorization,
    "-d",
    "{}",
    `${pitwall.stack.endpoint}/pitwall.v1.AccessService/OpenTunnel`,
  ]);
  expect(JSON.parse(stderr)).toMatchObject({ code: "unimplemented" });
});

it("answers a browser's preflight for no origin that was not named", async () => {
  const response = await fetch(`${pitwall.stack.endpoint}/pitwall.v1.VmService/ListVms`, {
    method: "OPTIONS",
    headers: { origin: "https://evil.example", "access-control-request-method": "POST" },
  });
  expect(response.headers.get("access-control-allow-origin")).toBeNull();
});
