import { join } from "node:path";
import { expect, it } from "vitest";
import { emptyConfig } from "../../tests/support/empty-config.ts";
import { configDocument, toImageConfig } from "../image-config.ts";
import type { ImageConfig } from "../image.ts";
import { ignoredFields, judge } from "./contract.ts";
import { fields } from "./fields.ts";
import { printContract } from "./print.ts";
import type { FieldVerdict } from "./verdict.ts";

const verdictOf = (field: string, change: Partial<ImageConfig>): FieldVerdict | undefined =>
  judge({ ...emptyConfig, ...change }).find((verdict) => verdict.field === field);

const check = { intervalMs: 0, timeoutMs: 0, startPeriodMs: 0, startIntervalMs: 0, retries: 0 };

it("is what docs/parity.md says; `npx vitest run libs/oci/src/parity -u` prints it anew", async () => {
  await expect(printContract()).toMatchFileSnapshot(join(import.meta.dirname, "..", "..", "..", "..", "docs", "parity.md"));
});

it("judges every field of an image that says nothing, and ignores none", () => {
  const verdicts = judge(emptyConfig);
  expect(verdicts.map(({ field }) => field)).toEqual(fields.map(({ field }) => field));
  expect(verdicts.filter(({ value }) => value !== "")).toMatchObject([
    { field: "architecture", value: '"amd64"', parity: "honoured" },
    { field: "os", value: '"linux"', parity: "honoured" },
  ]);
  expect(ignoredFields(emptyConfig)).toEqual([]);
});

const cases: [field: string, change: Partial<ImageConfig>, parity: string][] = [
  ["variant", { variant: "v1" }, "honoured"],
  ["variant", { variant: "v3" }, "ignored"],
  ["os.version", { osVersion: "10.0" }, "ignored"],
  ["os.features", { osFeatures: ["win32k"] }, "ignored"],
  ["config.Entrypoint", { entrypoint: ["/app"] }, "honoured"],
  ["config.Cmd", { entrypoint: ["/app"] }, "honoured"],
  ["config.Entrypoint", { entrypoint: ["/sbin/init"] }, "adapted"],
  ["config.Entrypoint", { entrypoint: ["/init"], cmd: ["x"] }, "adapted"],
  ["config.Entrypoint", { entrypoint: ["tini", "/sbin/init"] }, "honoured"],
  ["config.Cmd", { cmd: ["/lib/systemd/systemd"] }, "adapted"],
  ["config.StopSignal", { cmd: ["/lib/systemd/systemd"] }, "adapted"],
  ["config.StopSignal", { cmd: ["/lib/systemd/systemd"], stopSignal: "SIGTERM" }, "honoured"],
  ["config.StopSignal", { cmd: ["/init"] }, "honoured"],
  ["config.Cmd", {}, "adapted"],
  ["config.Env", { env: ["A=1", "B="] }, "honoured"],
  ["config.Env", { env: ["A"] }, "adapted"],
  ["config.User", { user: "web:www" }, "honoured"],
  ["config.WorkingDir", { workingDir: "/srv" }, "honoured"],
  ["config.WorkingDir", { workingDir: "srv" }, "adapted"],
  ["config.StopSignal", { stopSignal: "SIGQUIT" }, "honoured"],
  ["config.StopSignal", { stopSignal: "quit" }, "honoured"],
  ["config.StopSignal", { stopSignal: "3" }, "honoured"],
  ["config.StopSignal", { stopSignal: "SIGRTMIN+3" }, "honoured"],
  ["config.StopSignal", { stopSignal: "SIGRTMIN+31" }, "adapted"],
  ["config.StopSignal", { stopSignal: "65" }, "adapted"],
  ["config.StopSignal", { stopSignal: "SIGNONE" }, "adapted"],
  ["config.Healthcheck", { healthcheck: { ...check, test: ["CMD", "true"] } }, "honoured"],
  ["config.Healthcheck", { healthcheck: { ...check, test: ["NONE"] } }, "honoured"],
  ["config.Healthcheck", { healthcheck: { ...check, test: [] } }, "honoured"],
  ["config.Volumes", { volumes: ["/data"] }, "adapted"],
  ["config.ExposedPorts", { exposedPorts: ["80/tcp", "81"] }, "adapted"],
  ["config.ExposedPorts", { exposedPorts: ["80/tcp", "53/udp"] }, "ignored"],
  ["config.Shell", { shell: ["/bin/bash", "-c"] }, "honoured"],
  ["config.OnBuild", { onBuild: ["RUN true"] }, "honoured"],
  ["config.Labels", { labels: { a: "b" } }, "adapted"],
  ["created", { others: { created: '"2026-01-01T00:00:00Z"' } }, "honoured"],
  ["config.Tty", { others: { "config.Tty": "true" } }, "ignored"],
  ["config.Memory", { others: { "config.Memory": "1024" } }, "ignored"],
  ["config.Brand", { others: { "config.Brand": '"new"' } }, "ignored"],
];
it.each(cases)("judges %s of %j: %s", (field, change, parity) => {
  expect(verdictOf(field, change)).toMatchObject({ field, parity, why: expect.stringMatching(/./) as string });
});

it("shows what the image says", () => {
  expect(verdictOf("config.Cmd", { cmd: ["sh", "-c", 'echo "hi"'] })?.value).toBe('["sh","-c","echo \\"hi\\""]');
});

it("leaves no field of a document out that is set", () => {
  const { imageConfig } = toImageConfig(
    configDocument.parse({
      architecture: "amd64",
      os: "linux",
      variant: "v2",
      created: "2026-01-01T00:00:00Z",
      history: [{ created_by: "hand" }],
      "os.features": ["x"],
      rootfs: { type: "layers", diff_ids: [] },
      config: {
        Hostname: "",
        Tty: false,
        AttachStdin: true,
        Memory: 5,
        Healthcheck: { Test: ["CMD-SHELL", "true"], Interval: 30_000_000_000, Retries: 3 },
        Volumes: { "/data": {} },
      },
    }),
  );
  expect(imageConfig).toMatchObject({
    variant: "v2",
    osFeatures: ["x"],
    healthcheck: { ...check, test: ["CMD-SHELL", "true"], intervalMs: 30_000, retries: 3 },
    volumes: ["/data"],
  });
  expect(imageConfig.others).toEqual({
    created: '"2026-01-01T00:00:00Z"',
    history: '[{"created_by":"hand"}]',
    "config.AttachStdin": "true",
    "config.Memory": "5",
  });
});
