// The image configuration (image-spec, config.md, and Docker's additions): every field that is set comes out of here under some name.
import { z } from "zod";
import type { Healthcheck, ImageConfig } from "./image.ts";

export const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "only sha256 digests are taken");

/** What reaches a process as an argument or a variable, which end at a zero byte. */
const word = z.string().refine((value) => !value.includes("\0"), "holds a zero byte");
const texts = z
  .array(word)
  .nullish()
  .transform((value) => value ?? []);
const text = word.nullish().transform((value) => value ?? "");
const count = z
  .number()
  .nonnegative()
  .nullish()
  .transform((value) => value ?? 0);
const keys = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((value) => Object.keys(value ?? {}));

const healthcheck = z.object({ Test: texts, Interval: count, Timeout: count, StartPeriod: count, StartInterval: count, Retries: count });
const process = z.looseObject({
  Entrypoint: texts,
  Cmd: texts,
  Env: texts,
  User: text,
  WorkingDir: text,
  StopSignal: text,
  ExposedPorts: keys,
  Labels: z.record(z.string(), z.string()).nullish(),
  Healthcheck: healthcheck.nullish(),
  Volumes: keys,
  Shell: texts,
  OnBuild: texts,
});

export const configDocument = z.looseObject({
  architecture: text,
  variant: text,
  os: text,
  "os.version": text,
  "os.features": texts,
  rootfs: z.object({
    diff_ids: z
      .array(digest)
      .nullish()
      .transform((value) => value ?? []),
  }),
  config: process.nullish(),
});

const maxOtherText = 200;

/** `document` is for whatever platform it says. */
export function toImageConfig(document: z.output<typeof configDocument>): { imageConfig: ImageConfig; diffIds: string[] } {
  const { config: run, rootfs } = document;
  const imageConfig: ImageConfig = {
    entrypoint: run?.Entrypoint ?? [],
    cmd: run?.Cmd ?? [],
    env: run?.Env ?? [],
    user: run?.User ?? "",
    workingDir: run?.WorkingDir ?? "",
    stopSignal: run?.StopSignal ?? "",
    exposedPorts: run?.ExposedPorts ?? [],
    labels: run?.Labels ?? {},
    healthcheck: run?.Healthcheck ? toHealthcheck(run.Healthcheck) : undefined,
    volumes: run?.Volumes ?? [],
    shell: run?.Shell ?? [],
    onBuild: run?.OnBuild ?? [],
    architecture: document.architecture,
    variant: document.variant,
    os: document.os,
    osVersion: document["os.version"],
    osFeatures: document["os.features"],
    others: Object.fromEntries([
      ...rest("", document, Object.keys(configDocument.shape)),
      ...rest("config.", run ?? {}, Object.keys(process.shape)),
    ]),
  };
  return { imageConfig, diffIds: rootfs.diff_ids };
}

/** Docker counts nanoseconds. */
function toHealthcheck({ Test, Interval, Timeout, StartPeriod, StartInterval, Retries }: z.output<typeof healthcheck>): Healthcheck {
  const toMs = (nanos: number): number => nanos / 1e6;
  return {
    test: Test,
    intervalMs: toMs(Interval),
    timeoutMs: toMs(Timeout),
    startPeriodMs: toMs(StartPeriod),
    startIntervalMs: toMs(StartInterval),
    retries: Retries,
  };
}

/** What is set of that which has no name here. Docker writes all of its fields, set or not. */
function rest(prefix: string, object: Readonly<Record<string, unknown>>, known: readonly string[]): [string, string][] {
  return Object.entries(object)
    .filter(([name, value]) => !known.includes(name) && isSet(value))
    .map(([name, value]) => [prefix + name, JSON.stringify(value).slice(0, maxOtherText)]);
}

function isSet(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === "object" && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}
