// What a simulated guest would be told of its devices; it has none, and reads nothing.
import type { GuestWiring } from "../machine/vmm.ts";

export const wiring: GuestWiring = {
  channel: { kind: "virtio-serial", name: "simulated" },
  network: { interface: "", address: "", gateway: "", dns: [] },
};
