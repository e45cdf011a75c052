// Everything a node needs on this machine, made or found.
import { cacheDir, withLock } from "./cache.ts";
import { provideKernel } from "./kernel.ts";
import { installPackages, runtimeCommands } from "./packages.ts";
import { providePowerunit } from "./powerunit.ts";

export interface Provisioned {
  readonly cacheDir: string;
  readonly kernel: string;
  readonly modulesDir: string;
  readonly powerunit: string;
}

/** Quick when all is there. `commands` adds to what a node needs. */
export async function provision(say: (text: string) => void, commands: Readonly<Record<string, string>> = {}): Promise<Provisioned> {
  const dir = cacheDir();
  return withLock(dir, say, async () => {
    await installPackages({ ...runtimeCommands, ...commands }, say);
    const { kernel, modulesDir } = await provideKernel(dir, say);
    return { cacheDir: dir, kernel, modulesDir, powerunit: await providePowerunit(dir, say) };
  });
}
