import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { emptyConfig } from "@pitwall/oci/tests/support/empty-config.ts";
import { expect, it, onTestFinished } from "vitest";
import { readRecord, recordPath, writeRecord, type ImageRecord } from "./record.ts";

const record: ImageRecord = {
  config: {
    ...emptyConfig,
    ...{ entrypoint: ["/bin/app"], env: ["A=1"], workingDir: "/", stopSignal: "SIGTERM", exposedPorts: ["80/tcp"], labels: { a: "b" } },
  },
  references: ["oci:/image"],
  layers: [],
};

async function kept(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pitwall-record-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const base = join(dir, "base.sqfs");
  await writeFile(base, "");
  await writeRecord(base, record);
  return base;
}

it("is read as it was written", async () => {
  expect(await readRecord(await kept())).toEqual({ edition: 2, ...record });
});

it("is not taken when another version wrote it with a field less: the image is made again", async () => {
  const base = await kept();
  const { volumes: _, ...config } = record.config;
  await writeFile(recordPath(base), JSON.stringify({ edition: 2, ...record, config }));
  expect(await readRecord(base)).toBeUndefined();
});
