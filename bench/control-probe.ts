// Loaded into a process that is measured (`--import`): says what the process takes, after a garbage collection that
// gives back all it can, to whoever connects.
import { createServer } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const path = new URL(import.meta.url).searchParams.get("socket");

setFlagsFromString("--expose-gc");
const collect: unknown = runInNewContext("gc");
setFlagsFromString("--no-expose-gc");

if (path !== null && typeof collect === "function") {
  const run = collect as NodeJS.GCFunction;
  createServer((socket) => {
    run({ type: "major", execution: "sync", flavor: "last-resort" });
    const { rss, heapUsed } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const cpuMs = (user + system) / 1000;
    socket.end(JSON.stringify({ rssBytes: rss, heapBytes: heapUsed, cpuMs, atMs: performance.now() }));
  })
    .listen(path)
    .unref();
}
