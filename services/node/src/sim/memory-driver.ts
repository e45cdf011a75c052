// VMMs inside the process of their agent, on a virtual host: thousands cost little, and a virtual clock drives them.
import { GuestState } from "@pitwall/proto/pitwall/v1/guest.ts";
import { PitwallError, type Clock, type Failpoints } from "@pitwall/runtime";
import type { MachineGuest } from "../machine/host.ts";
import type { Vmm, VmmDriver } from "../machine/vmm.ts";
import type { SimHost, SimProcess } from "./host.ts";
import { SimGuest } from "./memory-guest.ts";
import type { Plan } from "./plan.ts";
import { wiring } from "./wiring.ts";

/** What a simulated VM is said to take. */
const rssBytes = 2 ** 21;

export interface MemoryDriverOptions {
  readonly host: SimHost;
  readonly clock: Clock;
  readonly plan: Plan;
  readonly failpoints: Failpoints;
}

export interface MemoryDriver extends VmmDriver {
  openGuest(vmm: Vmm, signal: AbortSignal): Promise<MachineGuest>;
}

export function openMemoryDriver({ host, clock, plan, failpoints }: MemoryDriverOptions): MemoryDriver {
  const gone = (): PitwallError => new PitwallError("unavailable", "the simulated VMM is gone", { reason: "VMM_GONE" });

  function handle(process: SimProcess): Vmm {
    return {
      process: { driver: "sim", ...process.identity },
      exited: process.exited,
      async openChannel() {
        throw gone(); // its guest has no wire: openGuest below is the way in
      },
      pause: async () => process.guest.pause(true),
      resume: async () => process.guest.pause(false),
      async suspend(signal) {
        await untilWritten(process, signal);
        host.keepMemory(process);
        await failpoints.at("suspend.memory.kept");
        process.end({ code: null, signal: "SIGKILL" });
      },
      kill: () => process.kill(),
      usage: async () => ({ cpuMs: 0, rssBytes }),
    };
  }

  async function untilWritten({ dir }: SimProcess, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const takesMs = plan.suspendMs(dir.slice(dir.lastIndexOf("/") + 1));
    if (takesMs > 0) await clock.sleep(takesMs, signal);
  }

  /** What the script has in store for a guest. None of it belongs to the agent: it goes on when that is gone. */
  function bring(vmId: string, process: SimProcess): void {
    const { guest, end } = process;
    guest.onShutdown = () => void clock.after(plan.shutdownMs(vmId), () => end({ code: 0, signal: null }));
    clock.after(plan.bootMs(vmId), () => {
      const failed = plan.find("failed-boot", vmId);
      if (failed) {
        guest.say({ state: GuestState.GUEST_STATE_FAILED, message: failed.message });
        return end({ code: 1, signal: null });
      }
      guest.say({ state: GuestState.GUEST_STATE_READY });
      const exits = plan.find("guest-exit", vmId);
      const serviceExit = { code: exits?.code ?? 0, signal: 0, outOfMemory: false };
      if (exits) clock.after(plan.timeMs(exits.after, exits, vmId), () => guest.say({ serviceExit }));
      const killed = plan.find("vmm-killed", vmId);
      if (killed) clock.after(plan.timeMs(killed.after, killed, vmId), () => end({ code: null, signal: "SIGKILL" }));
    });
  }

  return {
    name: "sim",
    wiring,
    probe: async () => ({ version: "1", acceleration: "none" }),
    async start({ vmId, dir }) {
      const process = host.spawn(dir, new SimGuest(clock));
      bring(vmId, process);
      try {
        await failpoints.at("create.vmm.spawned", vmId);
        await failpoints.at("create.vmm.configured", vmId);
        return handle(process);
      } catch (cause) {
        await process.kill();
        throw new PitwallError("unavailable", "the simulated VMM did not start", { reason: "VMM_START_FAILED", cause });
      }
    },
    isSuspended: async (dir) => host.memoryOf(dir) !== undefined,
    forget: async (dir) => host.forgetMemory(dir),
    async wake({ vmId, dir }) {
      const guest = host.memoryOf(dir);
      if (!guest) throw new PitwallError("unavailable", "there is no memory of this VM", { reason: "MEMORY_REFUSED" });
      const process = host.spawn(dir, guest);
      guest.onShutdown = () => void clock.after(plan.shutdownMs(vmId), () => process.end({ code: 0, signal: null }));
      try {
        host.forgetMemory(dir);
        await failpoints.at("wake.memory.gone", vmId);
        guest.pause(false);
        return handle(process);
      } catch (cause) {
        await process.kill();
        throw new PitwallError("unavailable", "the simulated VMM did not start", { reason: "VMM_START_FAILED", cause });
      }
    },
    async adopt(_, identity) {
      const process = host.process(identity);
      // No child of who adopts it: how it ends is not told.
      return process && { ...handle(process), exited: process.exited.then((exit) => ({ ...exit, code: null, signal: null })) };
    },
    async openGuest(vmm, signal) {
      const process = host.process(vmm.process);
      if (!process) throw gone();
      return process.guest.open(signal);
    },
  };
}
