// The images by hand: one small file tree, many configurations. Each has the probe as /probe.
import type { RunConfig } from "./layouts.ts";

export interface ParityImage {
  /** A tag, and the name of its VM. */
  readonly name: string;
  /** `scratch`: the probe alone. `small`: users, folders, a static busybox. `musl`: a probe that musl's loader starts, and that. */
  readonly tree: "scratch" | "small" | "musl";
  readonly config: RunConfig;
  /** Nothing but volumes may be written: a wish of who runs it. */
  readonly isReadOnly?: boolean;
  /** The probe waits, and is stopped. */
  readonly stop?: boolean;
  /** The container does not start. What is left of the comparison is that the process does not run in the VM either. */
  readonly refused?: true;
}

const probe = (name: string, config: RunConfig, more: Partial<ParityImage> = {}): ParityImage => ({
  name,
  tree: "small",
  config: { Entrypoint: ["/probe"], ...config },
  ...more,
});
const then = (what: string, ...env: readonly string[]): RunConfig => ({ Env: [`PARITY_THEN=${what}`, ...env] });

const images: readonly ParityImage[] = [
  // Arguments.
  probe("scratch", {}, { tree: "scratch" }),
  { name: "musl", tree: "musl", config: { Entrypoint: ["/probe"], Cmd: ["x"] } },
  { name: "musl-user", tree: "musl", config: { Entrypoint: ["/probe"], User: "1000:1000", WorkingDir: "/home/app" } },
  { name: "cmd-only", tree: "scratch", config: { Cmd: ["/probe", "one"] } },
  probe("both", { Cmd: ["one", "two words", "", "ünïcode", "$HOME", "a\nb"] }),
  { name: "shell-form", tree: "small", config: { Cmd: ["/bin/sh", "-c", "exec /probe from-shell"] } },
  { name: "in-path", tree: "small", config: { Entrypoint: ["probe"], Env: ["PATH=/nowhere:/opt/tools"] } },
  { name: "script", tree: "small", config: { Entrypoint: ["/opt/tools/script"], Cmd: ["x"] } },
  { name: "relative", tree: "small", config: { Entrypoint: ["./probe"], WorkingDir: "/opt/tools" } },
  // Environment.
  probe("env", { Env: ["PATH=/bin", "A=1", "EMPTY=", "EQUALS=a=b", "SPACE=a b", "QUOTE=\"'", "NEWLINE=a\nb"] }),
  probe("env-twice", { Env: ["A=1", "B=2", "A=3"] }),
  probe("env-home", { Env: ["HOME=/elsewhere"], User: "web" }),
  // Users.
  probe("user-name", { User: "web" }),
  probe("user-uid", { User: "33" }),
  probe("user-uid-unknown", { User: "12345" }),
  probe("user-uid-unknown-scratch", { User: "12345" }, { tree: "scratch" }),
  probe("user-name-group", { User: "web:audio" }),
  probe("user-name-gid", { User: "web:77" }),
  probe("user-uid-gid", { User: "33:44" }),
  probe("user-uid-group", { User: "12345:audio" }),
  probe("user-numeric-name", { User: "1001" }),
  probe("user-root", { User: "root" }),
  probe("user-root-uid", { User: "0" }),
  probe("user-root-scratch", { User: "0:0" }, { tree: "scratch" }),
  probe("user-group-only", { User: ":audio" }),
  probe("user-empty-group", { User: "web:" }),
  probe("user-no-home", { User: "nohome" }),
  probe("user-many-groups", { User: "joiner" }),
  probe("user-unknown", { User: "nobody-here" }, { refused: true }),
  probe("group-unknown", { User: "web:no-such-group" }, { refused: true }),
  probe("user-name-scratch", { User: "web" }, { tree: "scratch", refused: true }),
  probe("uid-too-large", { User: "4294967296" }, { refused: true }),
  // Folders.
  probe("dir", { WorkingDir: "/srv/app" }),
  probe("dir-missing", { WorkingDir: "/made/for/this" }),
  probe("dir-missing-user", { WorkingDir: "/made/for/this", User: "web" }),
  probe("dir-missing-scratch", { WorkingDir: "/a/b" }, { tree: "scratch" }),
  probe("dir-link", { WorkingDir: "/srv/link" }),
  probe("dir-dots", { WorkingDir: "/srv/../opt/./tools/" }),
  probe("dir-closed", { WorkingDir: "/srv/closed", User: "web" }),
  probe("volumes", { Volumes: { "/data": {}, "/made/volume": {} }, Env: ["PARITY_PATHS=/data:/made/volume"] }),
  probe("volumes-user", { Volumes: { "/data": {} }, User: "web", Env: ["PARITY_PATHS=/data"] }),
  probe(
    "read-only",
    {
      Volumes: { "/data": {} },
      WorkingDir: "/made/for/this",
      Env: ["PARITY_PATHS=/:/srv:/tmp:/data:/etc/passwd:/etc/hosts:/made/for/this"],
    },
    { isReadOnly: true },
  ),
  probe("read-only-user", { Volumes: { "/data": {} }, User: "web", Env: ["PARITY_PATHS=/data:/tmp:/srv"] }, { isReadOnly: true }),
  // How it ends.
  probe("exit-7", then("exit:7")),
  probe("exit-255", then("exit:255")),
  probe("killed", then("kill:9")),
  probe("terminated-by-itself", then("kill:15")),
  { name: "missing-program", tree: "small", config: { Entrypoint: ["/no/such"] }, refused: true },
  { name: "missing-in-path", tree: "small", config: { Entrypoint: ["nowhere"] }, refused: true },
  { name: "not-executable", tree: "small", config: { Entrypoint: ["/etc/passwd"] }, refused: true },
  { name: "a-folder", tree: "small", config: { Entrypoint: ["/etc"] }, refused: true },
  { name: "missing-interpreter", tree: "small", config: { Entrypoint: ["/opt/tools/no-interpreter"] }, refused: true },
  // How it is stopped.
  probe("stop-default", then("wait"), { stop: true }),
  probe("stop-quit", { ...then("wait"), StopSignal: "SIGQUIT" }, { stop: true }),
  probe("stop-short-name", { ...then("wait"), StopSignal: "INT" }, { stop: true }),
  probe("stop-number", { ...then("wait"), StopSignal: "10" }, { stop: true }),
  probe("stop-real-time", { ...then("wait"), StopSignal: "SIGRTMIN+3" }, { stop: true }),
  probe("stop-user", { ...then("wait"), StopSignal: "SIGUSR2", User: "web" }, { stop: true }),
  // An init of its own.
  { name: "own-init", tree: "small", config: { Entrypoint: ["/sbin/init"], Cmd: ["arg"], Env: ["A=1"] } },
  { name: "own-init-stop", tree: "small", config: { ...then("wait"), Cmd: ["/sbin/init"], StopSignal: "SIGRTMIN+3" }, stop: true },
  // What is written down only.
  probe("labels-ports", { Labels: { a: "b" }, ExposedPorts: { "80/tcp": {} }, Shell: ["/bin/none"], OnBuild: ["RUN false"] }),
];

/** Of these the others say nearly as much: PITWALL_PARITY=all runs them too. */
const rest: ReadonlySet<string> = new Set([
  ...["musl-user", "cmd-only", "in-path", "script", "env-twice"],
  ...["user-uid", "user-name-gid", "user-uid-gid", "user-uid-group", "user-root", "user-root-uid", "user-root-scratch"],
  ...["user-group-only", "user-empty-group", "user-uid-unknown-scratch", "group-unknown", "uid-too-large"],
  ...["dir-missing-user", "dir-dots", "dir-link", "volumes-user", "read-only-user"],
  ...["exit-255", "terminated-by-itself", "not-executable", "a-folder", "missing-interpreter", "stop-short-name", "stop-user"],
]);
const isAll = process.env["PITWALL_PARITY"] === "all";

export const chosen: readonly ParityImage[] = images.filter(({ name }) => isAll || !rest.has(name));
export const skipped: readonly string[] = isAll ? [] : [...rest];

const passwd = [
  "root:x:0:0:root:/root:/bin/sh",
  "web:x:33:34::/srv:/usr/sbin/nologin",
  "nohome:x:50:50:::/bin/sh",
  "joiner:x:60:60::/:",
  "1001:x:2000:2000::/opt:",
];
const group = ["root:x:0:", "web:x:34:", "audio:x:29:web,joiner", "video:x:44:joiner", "joiner:x:60:joiner", "wheel:x:10:root"];

export interface TreeEntry {
  readonly name: string;
  readonly type: "directory" | "file" | "symlink";
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly content?: Buffer;
  readonly linkname?: string;
}

/** As musl's own programs name it. */
export const muslLoader = "/lib/ld-musl-x86_64.so.1";

export interface Programs {
  readonly probe: Buffer;
  readonly muslProbe: Buffer;
  /** The loader, which is the library too. */
  readonly musl: Buffer;
  readonly busybox: Buffer;
}

/** The files of a tree. */
export function treeOf(tree: ParityImage["tree"], { probe: program, muslProbe, musl, busybox }: Programs): TreeEntry[] {
  const folder = (name: string, mode = 0o755, uid = 0, gid = uid): TreeEntry => ({ name, type: "directory", mode, uid, gid });
  const file = (name: string, content: string | Buffer, mode = 0o644): TreeEntry => ({
    name,
    type: "file",
    mode,
    content: Buffer.from(content),
  });
  const link = (name: string, linkname: string): TreeEntry => ({ name, type: "symlink", mode: 0o777, linkname });
  const probeFile = file("probe", program, 0o755);
  if (tree === "scratch") return [probeFile];
  if (tree === "musl") return [file("probe", muslProbe, 0o755), folder("lib"), file(muslLoader.slice(1), musl, 0o755)];
  return [
    probeFile,
    ...["bin", "etc", "opt", "opt/tools", "run", "sbin", "srv", "srv/app", "root"].map((name) => folder(name)),
    folder("srv/closed", 0o700, 33, 34),
    folder("tmp", 0o1777),
    folder("data", 0o750, 33, 34),
    link("srv/link", "app"),
    file("bin/busybox", busybox, 0o755),
    link("bin/sh", "busybox"),
    link("sbin/init", "../probe"),
    link("opt/tools/probe", "../../probe"),
    file("opt/tools/script", '#!/bin/sh\nexec /probe "$@" "$0"\n', 0o755),
    file("opt/tools/no-interpreter", "#!/no/such\n", 0o755),
    file("etc/passwd", `${passwd.join("\n")}\n`),
    file("etc/group", `${group.join("\n")}\n`),
    file("etc/hosts", "10.9.9.9 of-the-image\n"),
    link("etc/resolv.conf", "../run/nowhere/resolv.conf"),
  ];
}
