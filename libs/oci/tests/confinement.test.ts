// What reads strangers' layers cannot do: probed by a shell in the place of tar2sqfs.
import { spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, it } from "vitest";
import { openConfinement, type Confinement } from "../src/index.ts";
import { scratch } from "./support/scratch.ts";

const isRoot = process.getuid?.() === 0;
const confinement = await openConfinement();
const why = isRoot ? `skipped: this host allows "${confinement.kind}" only` : "skipped: it needs root";

/** What a script says under the confinement, with a file of the confined user as descriptor 3. */
async function probe({ owner, prefix }: Confinement, script: string, path: string): Promise<string> {
  await using file = await open(path, "wx", 0o600);
  if (owner !== undefined) await file.chown(owner, owner);
  const [program, ...args] = [...prefix, "sh", "-c", script];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore", file.fd], env: { ...process.env, SECRET: "canary" } });
  return child.stdout ? await text(child.stdout) : "";
}

const isSealed = confinement.kind === "sealed";
it.skipIf(!isSealed)(`has one file to write, and no user, network, process or secret${isSealed ? "" : ` (${why})`}`, async () => {
  await using work = await scratch();
  const path = join(work.dir, "output");
  const said = await probe(
    confinement,
    `id -u; id -G
     for line in $(tail -n +3 /share/self/net/dev | cut -d: -f1); do echo net $line; done
     for pid in /share/[0-9]*; do [ -e "$pid/stat" ] && echo process; done | sort -u
     grep -h -e ^CapEff -e ^CapBnd -e ^NoNewPrivs /share/self/status | tr -s '[:space:]' ' '; echo
     for dir in / /bin /lib /tmp /var/tmp ${work.dir} /share/sys /share/1/root/tmp; do touch $dir/probe && echo wrote $dir; done
     find / -path /share -prune -o -writable ! -type l -print
     [ -z "$SECRET" ] || echo secret
     echo kept > ${confinement.output} && echo done`,
    path,
  );
  expect(said.split("\n")).toEqual([
    "65533",
    "65533",
    "net lo",
    "process",
    "CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1 ",
    "done",
    "",
  ]);
  expect(await readFile(path, "utf8")).toBe("kept\n");
});
