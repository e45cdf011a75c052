// Loaded into a process that is measured (`--import`): says what the process takes, after a garbage collection, to whoever connects.
import { createServer } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const path = new URL(import.meta.url).searchParams.get("socket");
/** What the first collection frees may hold what the next one frees. */
const collections = 3;

setFlagsFromString("--expose-gc");
const collect: unknown = runInNewContext("gc");
setFlagsFromString("--no-expose-gc");

if (path !== null && typeof collect === "function") {
  const run = collect as () => void; // V8's own, when asked for without arguments
  createServer((socket) => {
    for (let n = 0; n < collections; n++) run();
    const { rss, heapUsed } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    const cpuMs = (user + system) / 1000;
    socket.end(JSON.stringify({ rssBytes: rss, heapBytes: heapUsed, cpuMs, atMs: performance.now() }));
  })
    .listen(path)
    .unref();
}
