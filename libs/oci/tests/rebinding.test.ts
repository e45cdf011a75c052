// Names that lead to public addresses first and to private ones later: the address that counts is the one that is connected to.
import { execFile, execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { makeCertificate } from "./support/certificate.ts";
import { scratch } from "./support/scratch.ts";

const program = fileURLToPath(new URL("support/rebinding.ts", import.meta.url));
const apart = ["--user", "--map-root-user", "--net", "--mount"];
const isPossible = (() => {
  try {
    execFileSync("unshare", [...apart, "ip", "link", "set", "lo", "up"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();
const why = isPossible ? "" : " (skipped: this host allows no namespaces)";

const refused = (name: string): RegExp => new RegExp(`^invalid: image: ${name} is on a private network`);
const expected: Readonly<Record<string, RegExp>> = {
  "a public address": /^right, with 4 requests, 0 for blobs and 0 for tokens$/,
  "a redirect and a token from public addresses": /^right, with 5 requests, 3 for blobs and 1 for tokens$/,
  "a private address": refused("registry.test"),
  "private addresses alone": refused("registry.test"),
  "127.0.0.1 after the first answer": refused("registry.test"),
  "10.1.2.3 after the first answer": refused("registry.test"),
  "169.254.169.254 after the first answer": refused("registry.test"),
  "::1 after the first answer": refused("registry.test"),
  "::ffff:127.0.0.1 after the first answer": refused("registry.test"),
  "private addresses before a public one": /^right, /,
  "a public address where nobody answers, and a private one": /^unavailable: the registry registry.test cannot be reached: .*ECONNREFUSED/,
  "a redirect to a private address": refused("blobs.test"),
  "a redirect to a name that is private from then on": refused("blobs.test"),
  "a token service at a private address": refused("tokens.test"),
  "a token service that is private for the second token": refused("tokens.test"),
  "a mirror at a private address": /^right, /,
};
/** That connections to private addresses are seen at all. */
const allowed = "a private address that is allowed, which is no registry";

it.skipIf(!isPossible)(`connects to no private address, whatever a name means by then${why}`, async () => {
  await using work = await scratch();
  await makeCertificate(work.dir, "DNS:registry.test,DNS:tokens.test,DNS:blobs.test,DNS:mirror.test");
  const hosts = join(work.dir, "hosts");
  await writeFile(hosts, "");
  await mkdir(join(work.dir, "tmp"));
  const addresses = ["8.8.8.8", "8.8.4.4", "9.9.9.9", "1.1.1.1", "10.1.2.3", "169.254.169.254"].map(
    (address) => `ip address add ${address} dev lo`,
  );
  const script = ["set -e", "ip link set lo up", ...addresses, 'mount --bind "$1" /etc/hosts', 'exec "$0" "$2" "$1" "$3"'].join("\n");
  const env = { ...process.env, TMPDIR: join(work.dir, "tmp") };
  const line = [...apart, "sh", "-c", script, process.execPath, hosts, program, work.dir];
  const { stdout } = await promisify(execFile)("unshare", line, { env, timeout: 60_000 });
  const outcomes = stdout
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text) as { name: string; outcome: string; trapped: number });
  expect(outcomes.map(({ name }) => name)).toEqual([...Object.keys(expected), allowed]);
  for (const { name, outcome, trapped } of outcomes) {
    expect(outcome, name).toMatch(expected[name] ?? /^unavailable: /);
    expect(trapped > 0, name).toBe(name === allowed);
  }
});
