// The public conformance suite for RPC servers (connectrpc.com/conformance): its runner and its reference server, compiled once.
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "@pitwall/runtime";
import { withProgress, type Say } from "../progress.ts";
import { cacheDir as usualCacheDir } from "./cache.ts";
import { command } from "./command.ts";
import { findGo, goFolders } from "./powerunit.ts";

const moduleName = "connectrpc.com/conformance";
/** Pinned: a suite that grows by itself would fail on sources that passed. Go checks its sum. */
const version = "v1.0.7";

export interface Conformance {
  readonly runner: string;
  readonly referenceServer: string;
}

/** Fetched and compiled by the Go that is found, which takes a minute or more the first time. Throws what Go says. */
export async function provideConformance(say: Say, cacheDir: string = usualCacheDir()): Promise<Conformance> {
  const folder = join(cacheDir, "conformance", version);
  const programs = { runner: join(folder, "connectconformance"), referenceServer: join(folder, "referenceserver") };
  if (await exists(folder)) return programs;
  const go = await findGo(cacheDir, say);
  await mkdir(join(cacheDir, "conformance"), { recursive: true });
  const work = await mkdtemp(join(cacheDir, "conformance", "build-"));
  try {
    const env = { CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOFLAGS: "-trimpath", GOBIN: work, ...(await goFolders(cacheDir)) };
    const packages = ["connectconformance", "referenceserver"].map((name) => `${moduleName}/cmd/${name}@${version}`);
    await withProgress(say, "compiling the conformance suite", () => command(go, ["install", "-ldflags=-s -w", ...packages], { env }));
    await rename(work, folder).catch(async (error: unknown) => {
      if (!(await exists(folder))) throw error; // another process was faster
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return programs;
}
