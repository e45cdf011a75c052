// The command line of `npm start`.
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

export const help = `Usage: npm start -- [IMAGE] [options]

Boots an OCI image as a microVM on this machine and lets you in with ssh.
IMAGE is registry/name:tag, oci:DIR[:TAG] or docker-archive:FILE; without one, a small Debian with nginx.

  --state DIR   where VMs, database and keys are kept (default: ~/.local/state/pitwall)
  --fresh       begin anew: removes the VMs and all else below the state folder first
  --json        one line of JSON on stdout once the VM is ready; all else goes to stderr
  --prepare     installs and makes what \`pitwall node\` needs, and prints the flags that tell it; starts nothing
  --doctor      says what this machine has and lacks, and starts nothing
  --help

Ctrl-C stops everything. PITWALL_CACHE moves the cache of downloads and images.
PITWALL_INSECURE_REGISTRIES=host:port,… allows registries without TLS or on a private network.
`;

export interface StartArguments {
  readonly image: string | undefined;
  readonly stateDir: string;
  readonly fresh: boolean;
  readonly json: boolean;
  readonly doctor: boolean;
  readonly prepare: boolean;
  readonly help: boolean;
}

/** Throws one sentence for a command line that makes no sense. Relative paths are of the folder the user is in. */
export function parseStartArguments(args: readonly string[], env: NodeJS.ProcessEnv): StartArguments {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      state: { type: "string" },
      fresh: { type: "boolean" },
      json: { type: "boolean" },
      doctor: { type: "boolean" },
      prepare: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  const [image, ...more] = positionals;
  if (more.length > 0) throw new Error(`one image at a time: ${more.join(" ")} is too much`);
  const here = env["INIT_CWD"] ?? process.cwd(); // npm runs scripts in the package's folder and tells where it was called
  const home = env["XDG_STATE_HOME"] ?? join(env["HOME"] ?? homedir(), ".local", "state");
  return {
    image: image === undefined ? undefined : absolute(image, here),
    stateDir: resolve(here, values.state ?? join(home, "pitwall")),
    fresh: values.fresh ?? false,
    json: values.json ?? false,
    doctor: values.doctor ?? false,
    prepare: values.prepare ?? false,
    help: values.help ?? false,
  };
}

/** `oci:./image` becomes an absolute path: the services run elsewhere. */
function absolute(image: string, here: string): string {
  const [, kind, path = "", tag = ""] = /^(oci|docker-archive):([^:]+)(:.*)?$/.exec(image) ?? [];
  return kind === undefined || /^\d+\//.test(path) ? image : `${kind}:${resolve(here, path)}${tag}`;
}

/** The folder or file that a local image reference names. */
export function localPath(image: string): string | undefined {
  return /^(?:oci|docker-archive):(\/[^:]*)/.exec(image)?.[1];
}
