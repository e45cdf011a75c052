// What a process finds around it in a VM that differs from a container. tests/parity.test.ts compares with runc: whatever differs is one of
// these rows, and each row is seen to differ.

export interface Surrounding {
  readonly what: string;
  readonly container: string;
  readonly vm: string;
  /** The names by which the comparison calls it. */
  readonly covers: RegExp;
}

export const surroundings: readonly Surrounding[] = [
  {
    what: "process number",
    container: "1 of a namespace of its own: signals that it does not handle are not delivered to it",
    vm: "any but 1, which is powerunit: signals that it does not handle do what they do by default, and orphans are powerunit's",
    covers: /^(status Pid|exit (killed|terminated-by-itself))$/,
  },
  {
    what: "an init of the image's own",
    container: "as any other process",
    vm: "process 1 of a PID namespace of its own, as in a container; /run is a tmpfs and `container=oci` is set",
    covers: /^(mount \/run|env container)$/,
  },
  {
    what: "a process that cannot be started (no such program, user or group)",
    container: "is not created, or ends at once with an error of the runtime",
    vm: "runs and takes SSH; the service has ended with 127 (no such program) or 126, and its log says why",
    covers: /^refused$/,
  },
  {
    what: "an image without Entrypoint and Cmd",
    container: "is refused",
    vm: "runs and takes SSH, without a service",
    covers: /^nothing to run$/,
  },
  {
    what: "capabilities",
    container: "a list that the engine chooses",
    vm: "all: the kernel is the VM's own",
    covers: /^status Cap(Eff|Bnd)$/,
  },
  {
    what: "the root file system",
    container: "what the engine made of the layers",
    vm: "an overlay of the image, read-only, and the VM's disk, writable; the image is never changed. A runtime's wish for a read-only root is no part of an image: it is `VmSpec.read_only_root`, which leaves the volumes writable",
    covers: /^mount \/$/,
  },
  {
    what: "/dev",
    container: "a tmpfs with the usual nodes and no other",
    vm: "the kernel's devtmpfs: the usual nodes with the usual modes, and the VM's own devices (disks, console, kmsg, mem); ptmx is a node",
    covers: /^(mount \/dev|path \/dev\/(console|kmsg|mem|ptmx))$/,
  },
  {
    what: "/proc",
    container: "parts are hidden (kcore, keys, timer_list, …) and parts read-only (sys, sysrq-trigger, irq, bus, fs)",
    vm: "all of it, writable by root: sysctls are the VM's own",
    covers:
      /^(mount \/proc\/(bus|fs|irq|sys|asound|timer_list|keys|kcore|sysrq-trigger|acpi|scsi)|path \/proc\/(kcore|keys|timer_list|sysrq-trigger|sys\/.*))$/,
  },
  {
    what: "/sys",
    container: "read-only, /sys/firmware hidden",
    vm: "writable by root",
    covers: /^(mount \/sys(\/firmware)?|path \/sys\/firmware)$/,
  },
  {
    what: "/sys/fs/cgroup",
    container: "read-only, in the version that the host has",
    vm: "control groups version 2, writable by root; the process is in /service",
    covers: /^(mount|path) \/sys\/fs\/cgroup$/,
  },
  {
    what: "/etc/hosts, /etc/hostname, /etc/resolv.conf",
    container: "bound over the image's by the engine, from the host; where a link leads to",
    vm: "bound over the image's by powerunit, from memory; a link that leads nowhere becomes a file. A change lasts until the VM stops",
    covers: /^mount (\/etc\/(hosts|hostname|resolv\.conf)|\/run\/nowhere\/resolv\.conf)$/,
  },
  {
    what: "volumes",
    container: "mounts of their own",
    vm: "folders of the one disk",
    covers: /^mount \/(data|made\/volume|var\/lib\/redis)$/,
  },
  {
    what: "resource limits",
    container: "the engine's or the host's",
    vm: "the same for every VM, whatever the host has: 1048576 open files (soft and hard), cores and processes without limit",
    covers: /^limit /,
  },
  {
    what: "standard input",
    container: "as the engine was asked; without a wish, /dev/null",
    vm: "/dev/null",
    covers: /^stdio$/,
  },
  {
    what: "HOME of a user whose entry in /etc/passwd has none",
    container: "empty",
    vm: "/",
    covers: /^env HOME$/,
  },
];
