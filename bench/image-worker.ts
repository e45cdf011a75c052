// One conversion in a process of its own, so that its memory is its own: `image-worker.ts CACHE REFERENCE… `, one line of JSON for each.
import { dirname } from "node:path";
import { openImageCache } from "@pitwall/node/src/images/cache.ts";
import { openImageSources } from "@pitwall/oci";
import { silentLog } from "@pitwall/runtime";

const [dir = "", ...references] = process.argv.slice(2);
const roots = references.flatMap((reference) => /^oci:([^:]+)/.exec(reference)?.[1] ?? []).map(dirname);
const hosts = references.flatMap((reference) => /^(127\.0\.0\.1:\d+)\//.exec(reference)?.[1] ?? []);
const sources = openImageSources({ imageRoots: roots, insecureRegistries: hosts });
const cache = await openImageCache({ dir, sources, log: silentLog, limitMs: 600_000 });
const { signal } = new AbortController();
for (const reference of references) {
  const begun = performance.now();
  const { digest } = await sources.resolve(reference, signal);
  await cache.ensure(reference, digest, signal);
  process.stdout.write(`${JSON.stringify({ ms: performance.now() - begun, rssKb: process.resourceUsage().maxRSS })}\n`);
}
