// What tests and benchmarks use of the quick start.
export { openSshAccess, type SshAccess } from "./ssh-access.ts";
export { cacheDir } from "./provision/cache.ts";
export { command } from "./provision/command.ts";
export { provision, type Provisioned } from "./provision/provision.ts";
export { installPackages, testCommands } from "./provision/packages.ts";
export { provideNodeVm, type NodeVmImage } from "./provision/node-vm.ts";
export { provideConformance, type Conformance } from "./provision/conformance.ts";
export { findGo, goFolders, provideBreakable, providePowerunit } from "./provision/powerunit.ts";
export { startStack, type Stack, type StackOptions } from "./stack/stack.ts";
export type { ServiceName } from "./stack/process.ts";
export { starterImage } from "./starter-image/starter-image.ts";
