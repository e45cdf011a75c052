// The host's processes, as machines see them.
import { planted, processesIn, signalProcess, waitForExit } from "@pitwall/runtime";
import type { Processes } from "../machine/host.ts";

export const hostProcesses: Processes = {
  workingIn: processesIn,
  async kill(identity) {
    signalProcess(identity, "SIGKILL");
    if (!planted("release-before-exit")) await waitForExit(identity);
  },
};
