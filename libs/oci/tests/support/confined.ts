// Run as a process of its own, so that it can be another user with other programs at hand: converts an image the way that this host lets it,
// and has a shell in the place of tar2sqfs look around. Argument: a folder. Prints one line of JSON.
import { spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Budget, defaultLimits, LayerStore, openConfinement, writeImage } from "../../src/index.ts";
import { layerOf, sha256 } from "./layout-writer.ts";
import { tarOf } from "./tar-writer.ts";
import { sourceOf } from "./unpack.ts";

export interface Looked {
  readonly kind: string;
  readonly image: string;
  readonly said: readonly string[];
}

const [dir = ""] = process.argv.slice(2);
const { kind, owner, output, prefix } = await openConfinement();

const { sources, image } = sourceOf([
  layerOf(tarOf([{ name: "etc/secret", content: Buffer.alloc(300_000, "x"), uid: 12, mode: 0o4750 }]), "gzip"),
]);
const signal = AbortSignal.timeout(30_000);
{
  await using store = await LayerStore.open({ dir: join(dir, "layers"), sources, keepBytes: 2 ** 30, reserveBytes: 0 });
  using pulling = store.begin("test", image, new Budget(defaultLimits), signal);
  await writeImage(pulling, join(dir, "image.sqfs"), defaultLimits, { kind, owner, output, prefix }, signal);
}

const processes = output.replace("/self/fd/3", "");
const script = `
  echo user $(id -u), groups $(id -G)
  echo networks $(tail -n +3 ${processes}/self/net/dev | cut -d: -f1)
  [ -e ${processes}/${process.pid}/stat ] && echo sees the agent
  echo $(grep -h -e ^CapEff -e ^CapBnd -e ^NoNewPrivs ${processes}/self/status)
  for one in ${dir} ${dir}/layers /etc /usr /bin /root; do [ -w $one ] && echo may write to $one; done
  [ -z "$SECRET" ] || echo knows the secret
  echo kept >&3 && echo wrote its file`;
await using file = await open(join(dir, "probe"), "wx", 0o600);
if (owner !== undefined) await file.chown(owner, owner);
const [program, ...args] = [...prefix, "sh", "-c", script];
const child = spawn(program, args, { stdio: ["ignore", "pipe", "ignore", file.fd] });
const said = child.stdout ? (await text(child.stdout)).trim().split("\n") : [];
const looked: Looked = { kind, image: sha256(await readFile(join(dir, "image.sqfs"))), said };
process.stdout.write(JSON.stringify(looked));
