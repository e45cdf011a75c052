// The version that package.json says.
import { readFileSync } from "node:fs";

export function packageVersion(): string {
  const found: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const version: unknown = typeof found === "object" && found !== null && "version" in found ? found.version : undefined;
  return typeof version === "string" ? version : "unknown";
}
