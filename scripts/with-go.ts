// Where the scripts' programs come from: node_modules (run.mjs puts it on PATH), and Go, found or fetched as `npm start` does.
import { delimiter, dirname, isAbsolute } from "node:path";
import { cacheDir } from "../quickstart/src/provision/cache.ts";
import { command } from "../quickstart/src/provision/command.ts";
import { findGo, goFolders } from "../quickstart/src/provision/powerunit.ts";

/** An environment in which `go` is a Go that is new enough. Throws one sentence when there is none. */
export async function environmentWithGo(say: (text: string) => void): Promise<NodeJS.ProcessEnv> {
  const go = await findGo(cacheDir(), say);
  const path = process.env["PATH"] ?? "";
  return {
    ...process.env,
    ...(await goFolders(cacheDir())),
    CGO_ENABLED: "0", // no C compiler is needed, and what npm start and npm test compiled is found again
    GOTOOLCHAIN: "local",
    GOFLAGS: "-mod=readonly",
    PATH: isAbsolute(go) ? `${dirname(go)}${delimiter}${path}` : path,
  };
}

/** What `go version` says, for caches of what Go found. */
export async function goVersion(env: NodeJS.ProcessEnv): Promise<string> {
  return (await command("go", ["version"], { env })).trim();
}
