// The controller's process.
import { failpointsFrom, logLevel, openLog, runMain } from "@pitwall/runtime";
import { readControllerConfig } from "./config.ts";
import { startController } from "./controller.ts";

const log = openLog("controller", logLevel(process.env["PITWALL_LOG_LEVEL"]));
await runMain(log, async () => {
  const failpoints = failpointsFrom(process.env, log);
  const config = readControllerConfig(process.env);
  const controller = await startController(config, { log, failpoints, path: process.env["PATH"] ?? "" });
  process.stdout.write(`${JSON.stringify({ ready: true, api: controller.api, link: controller.link, ops: controller.ops })}\n`);
  return controller;
});
