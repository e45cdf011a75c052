// The shape of an image's configuration, for reading back what another version of this library may have written.
import { z } from "zod";
import type { ImageConfig } from "./image.ts";

const texts = z.array(z.string());
const number = z.number();

/** The annotation makes a field that is new in {@link ImageConfig} a type error here. */
export const imageConfig: z.ZodType<ImageConfig> = z.object({
  entrypoint: texts,
  cmd: texts,
  env: texts,
  user: z.string(),
  workingDir: z.string(),
  stopSignal: z.string(),
  exposedPorts: texts,
  labels: z.record(z.string(), z.string()),
  healthcheck: z
    .object({ test: texts, intervalMs: number, timeoutMs: number, startPeriodMs: number, startIntervalMs: number, retries: number })
    .optional()
    .transform((value) => value),
  volumes: texts,
  shell: texts,
  onBuild: texts,
  architecture: z.string(),
  variant: z.string(),
  os: z.string(),
  osVersion: z.string(),
  osFeatures: texts,
  others: z.record(z.string(), z.string()),
});
