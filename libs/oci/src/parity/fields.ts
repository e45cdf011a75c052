// The rules of the contract, one row per field and case. The first case that holds is the verdict.
import type { ImageConfig } from "../image.ts";
import { isKnownSignal } from "./signals.ts";
import type { Parity } from "./verdict.ts";

export interface Case {
  /** When it holds, for the printed contract. */
  readonly when: string;
  readonly parity: Parity;
  readonly why: string;
  /** Absent: always. */
  readonly holds?: (config: ImageConfig) => boolean;
}

export interface Field {
  readonly field: string;
  readonly value: (config: ImageConfig) => unknown;
  readonly cases: readonly Case[];
}

const always = (parity: Parity, why: string, when = "always"): Case => ({ when, parity, why });

/** Programs that insist on being process 1, as powerunit tells them (supervise.IsInit). */
function isInit({ entrypoint, cmd }: ImageConfig): boolean {
  return /^\/(.*\/)?(init|systemd)$/.test([...entrypoint, ...cmd][0] ?? "");
}

/** Whether a program without a stop signal of its image gets the one that systemd halts by. */
export function stopsByHalt(program: string | undefined): boolean {
  return program !== undefined && /^(\/.*\/systemd|(\/usr)?\/sbin\/init)$/.test(program);
}

const initIs = "it is process 1 of a PID namespace of its own; powerunit stays process 1 of the VM (docs/decisions/0006)";

const isAbsolute = (path: string): boolean => path.startsWith("/");

export const fields: readonly Field[] = [
  {
    field: "architecture",
    value: ({ architecture }) => architecture,
    cases: [always("honoured", "amd64 is what VMs are; an image for another architecture is refused before this contract is asked")],
  },
  {
    field: "variant",
    value: ({ variant }) => variant,
    cases: [
      {
        when: "v2 or above",
        parity: "ignored",
        why: "nobody compares it with the processors of the nodes; a program may find an instruction missing",
        holds: ({ variant }) => variant !== "" && variant !== "v1",
      },
      always("honoured", "every amd64 processor will do", "absent or v1"),
    ],
  },
  { field: "os", value: ({ os }) => os, cases: [always("honoured", "linux, or the image is refused before this contract is asked")] },
  {
    field: "os.version",
    value: ({ osVersion }) => osVersion,
    cases: [
      { when: "set", parity: "ignored", why: "it has a meaning for Windows only", holds: ({ osVersion }) => osVersion !== "" },
      always("honoured", "the image asks for no version", "absent"),
    ],
  },
  {
    field: "os.features",
    value: ({ osFeatures }) => osFeatures,
    cases: [
      {
        when: "set",
        parity: "ignored",
        why: "no feature is defined for Linux, so none can be promised",
        holds: ({ osFeatures }) => osFeatures.length > 0,
      },
      always("honoured", "the image asks for no feature", "absent"),
    ],
  },
  {
    field: "config.Entrypoint",
    value: ({ entrypoint }) => entrypoint,
    cases: [
      {
        when: "the program is an init: an absolute path that ends in /init or /systemd",
        parity: "adapted",
        why: initIs,
        holds: (config) => config.entrypoint.length > 0 && isInit(config),
      },
      always("honoured", "it begins the argument list; nothing is put before it, and no shell is needed"),
    ],
  },
  {
    field: "config.Cmd",
    value: ({ cmd }) => cmd,
    cases: [
      {
        when: "no Entrypoint and no Cmd",
        parity: "adapted",
        why: "a container runtime refuses such an image without arguments; the VM boots without a process and takes SSH",
        holds: ({ entrypoint, cmd }) => entrypoint.length + cmd.length === 0,
      },
      {
        when: "no Entrypoint, and the program is an init",
        parity: "adapted",
        why: initIs,
        holds: (config) => config.entrypoint.length === 0 && isInit(config),
      },
      always("honoured", "it ends the argument list; the VM's own arguments replace it"),
    ],
  },
  {
    field: "config.Env",
    value: ({ env }) => env,
    cases: [
      {
        when: "an entry without `=`",
        parity: "adapted",
        why: "it is passed on as it is; a container runtime drops it or refuses the image",
        holds: ({ env }) => env.some((entry) => !entry.includes("=")),
      },
      always("honoured", "passed on; of a name that comes twice the last value counts; PATH and HOME are added when they are missing"),
    ],
  },
  {
    field: "config.User",
    value: ({ user }) => user,
    cases: [
      always(
        "honoured",
        "name, uid, name:group, uid:gid and their mixtures, looked up in the image's /etc/passwd and /etc/group; supplementary groups " +
          "from /etc/group when no group is named; a name that is not there ends the start, a number may be unknown",
      ),
    ],
  },
  {
    field: "config.WorkingDir",
    value: ({ workingDir }) => workingDir,
    cases: [
      {
        when: "not absolute",
        parity: "adapted",
        why: "it is read from /; a container runtime refuses it",
        holds: ({ workingDir }) => workingDir !== "" && !isAbsolute(workingDir),
      },
      always("honoured", "made when it is missing (root, mode 755); / when absent"),
    ],
  },
  {
    field: "config.StopSignal",
    value: ({ stopSignal }) => stopSignal,
    cases: [
      {
        when: "no signal of that name or number",
        parity: "adapted",
        why: "SIGTERM is sent instead",
        holds: ({ stopSignal }) => stopSignal !== "" && !isKnownSignal(stopSignal),
      },
      {
        when: "absent, and the program is systemd or /sbin/init",
        parity: "adapted",
        why: "SIGRTMIN+3, which systemd takes for a halt",
        holds: ({ stopSignal, entrypoint, cmd }) => stopSignal === "" && stopsByHalt([...entrypoint, ...cmd][0]),
      },
      always("honoured", "sent to the process when the VM is stopped, SIGKILL to its group 10 s later; SIGTERM when absent"),
    ],
  },
  {
    field: "config.Healthcheck",
    value: ({ healthcheck }) => healthcheck,
    cases: [
      {
        when: "a test",
        parity: "honoured",
        why: "run beside the process, as its user, at Docker's times; the VM's `health` says what came of it",
        holds: ({ healthcheck }) => healthcheck !== undefined && healthcheck.test.length > 0 && healthcheck.test[0] !== "NONE",
      },
      always("honoured", "there is nothing to run", "absent, empty or NONE"),
    ],
  },
  {
    field: "config.Volumes",
    value: ({ volumes }) => volumes,
    cases: [
      {
        when: "set",
        parity: "adapted",
        why: "the folders, made when they are missing (root, mode 755), are part of the VM's one disk: it outlives stop and start, and goes with the VM",
        holds: ({ volumes }) => volumes.length > 0,
      },
      always("honoured", "the image asks for none", "absent"),
    ],
  },
  {
    field: "config.ExposedPorts",
    value: ({ exposedPorts }) => exposedPorts,
    cases: [
      {
        when: "a port that is not TCP",
        parity: "ignored",
        why: "the ways into a VM carry TCP only",
        holds: ({ exposedPorts }) => exposedPorts.some((port) => /\/(?!tcp$)/.test(port)),
      },
      {
        when: "TCP",
        parity: "adapted",
        why: "nothing is published; whoever may use the VM reaches every TCP port, named here or not, through the gateway",
        holds: ({ exposedPorts }) => exposedPorts.length > 0,
      },
      always("honoured", "the image names none", "absent"),
    ],
  },
  {
    field: "config.Shell",
    value: ({ shell }) => shell,
    cases: [always("honoured", "it is for builds; running an image uses no shell")],
  },
  { field: "config.OnBuild", value: ({ onBuild }) => onBuild, cases: [always("honoured", "it is for builds on top of the image")] },
  {
    field: "config.Labels",
    value: ({ labels }) => labels,
    cases: [
      {
        when: "set",
        parity: "adapted",
        why: "shown with the image; the VM's labels are those of its own specification",
        holds: ({ labels }) => Object.keys(labels).length > 0,
      },
      always("honoured", "there are none", "absent"),
    ],
  },
];

interface OtherField {
  readonly names: RegExp;
  /** For the printed contract. */
  readonly shown: string;
  readonly parity: Parity;
  readonly why: string;
}

/** Fields that appear in a report only when they are set. The first row that fits is the verdict. */
export const otherFields: readonly OtherField[] = [
  {
    names: /^(created|author|history|comment|id|parent|container|container_config|docker_version|Size|moby\..+|config\.Image)$/,
    shown: "created, author, history, comment, id, parent, container, container_config, docker_version, Size, moby.…, config.Image",
    parity: "honoured",
    why: "how the image was made; running it uses none of that",
  },
  {
    names: /^config\.(Memory|MemorySwap|CpuShares)$/,
    shown: "config.Memory, config.MemorySwap, config.CpuShares",
    parity: "ignored",
    why: "reserved by the image specification; the VM's size is that of its own specification",
  },
  {
    names: /^config\.(Hostname|Domainname|MacAddress|NetworkDisabled)$/,
    shown: "config.Hostname, config.Domainname, config.MacAddress, config.NetworkDisabled",
    parity: "ignored",
    why: "a wish of the container in which the image was made; the VM's name and network are its own",
  },
  {
    names: /^config\.(Attach(Stdin|Stdout|Stderr)|Tty|OpenStdin|StdinOnce)$/,
    shown: "config.AttachStdin, …Stdout, …Stderr, config.Tty, config.OpenStdin, config.StdinOnce",
    parity: "ignored",
    why: "the process has no terminal and no input; its output goes to the VM's logs",
  },
  {
    names: /^config\.StopTimeout$/,
    shown: "config.StopTimeout",
    parity: "ignored",
    why: "the time between stop signal and SIGKILL is 10 s for every VM",
  },
  {
    names: /^config\.ArgsEscaped$/,
    shown: "config.ArgsEscaped",
    parity: "ignored",
    why: "it has a meaning for Windows only",
  },
  { names: /./, shown: "anything else", parity: "ignored", why: "this version of Pitwall does not know the field" },
];
