// The node VM itself: what in it is real, what a power cut takes, and that it ends with whoever started it.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { identify, isAlive, systemClock, type ProcessIdentity } from "@pitwall/runtime";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run as runHere } from "../support/run.ts";
import { repository, startNodeVm, startNodeVmPair, type NodeVm, type NodeVmPair } from "./support/node-vm.ts";
import { provided } from "./support/provided.ts";

const { image, whyNot } = await provided();
const mainFile = join(import.meta.dirname, "main.ts");
const main = [process.execPath, mainFile];
const bootGoalMs = 15_000;

/** Much longer than any line here takes. */
const lineLimitMs = 40_000;

/** Output of a line of bash in `vm`, which must succeed. */
async function bash(vm: NodeVm, line: string): Promise<string> {
  const { code, stdout, stderr } = await vm.run(line, { timeoutMs: lineLimitMs }).catch(async (cause: unknown) => {
    throw new Error(`${line}: its console says ${(await vm.console()).slice(-1_000)}`, { cause });
  });
  if (code === undefined) throw new Error(`${line} was ended: its console says ${(await vm.console()).slice(-1_000)}`);
  expect(code, `${line}\n${stderr}`).toBe(0);
  return stdout.trim();
}

/** Processor time of a process of this machine so far. */
async function processorMs(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10; // USER_HZ is 100
}

describe.skipIf(!image)(`a node VM${whyNot}`, () => {
  let vm: NodeVm;
  beforeAll(async () => {
    vm = await startNodeVm({ image: image!, shares: [repository, { dir: dirname(image!.kernel), at: "/image", readOnly: true }] });
  });
  afterAll(() => vm?.[Symbol.asyncDispose]());

  it("needs less than 15 s of processor time to a shell, whatever else the machine does", async () => {
    const costMs = await processorMs(vm.pid);
    process.stderr.write(`node VM: ${vm.bootMs} ms to a shell, ${costMs} ms of processor time\n`);
    expect(costMs).toBeLessThan(bootGoalMs);
  });

  it("boots another machine with its own KVM", async () => {
    const line =
      "timeout 90 qemu-system-x86_64 -M microvm -accel kvm -cpu host -m 128M -nodefaults -no-user-config -display none -no-reboot";
    const { stdout, stderr } = await vm.run(`${line} -serial stdio -kernel /image/vmlinux -append 'console=ttyS0 quiet reboot=t panic=-1'`);
    expect(stdout, stderr).toContain("Unable to mount root fs"); // as far as a kernel comes without a disk
  });

  it("has cgroup v2 with all controllers, and they hold", async () => {
    const controllers = (await bash(vm, "cat /sys/fs/cgroup/cgroup.subtree_control")).split(" ");
    expect(controllers).toEqual(expect.arrayContaining(["cpu", "cpuset", "io", "memory", "pids"]));
    const group = "/sys/fs/cgroup/held";
    await bash(vm, `mkdir ${group} && echo 3 > ${group}/pids.max && echo 32M > ${group}/memory.max`);
    const within = (line: string) => vm.run(`echo $$ > ${group}/cgroup.procs; ${line}`);
    expect((await within("for n in 1 2 3 4; do sleep 1 & done; wait")).stderr).toContain("Resource temporarily unavailable");
    expect(await within("exec dd if=/dev/zero of=/dev/null bs=64M count=1")).toMatchObject({ signal: "SIGKILL" });
    expect(await bash(vm, `grep -w oom_kill ${group}/memory.events`)).toBe("oom_kill 1");
  });

  it("has what the production path loads", async () => {
    const modules = [
      ...["kvm_amd", "tun", "bridge", "vhost_vsock", "loop", "squashfs", "overlay", "veth"],
      ...[
        "nf_tables",
        "nf_conntrack_bridge",
        "nft_meta_bridge",
        "nft_reject_bridge",
        "nft_ct",
        "nft_nat",
        "nft_masq",
        "nft_limit",
        "nft_log",
      ],
      ...["sch_netem", "sch_tbf", "sch_fq_codel", "sch_ingress", "act_police", "cls_u32", "cls_flower", "cls_matchall", "ifb"],
    ];
    expect((await vm.run(`for m in ${modules.join(" ")}; do modprobe $m || echo $m; done`)).stdout).toBe("");
  });

  it("passes packets through a TAP on a bridge, and counts and drops them by nftables", async () => {
    await bash(vm, "ip link add br0 type bridge && ip addr add 10.99.0.1/24 dev br0 && ip link set br0 up && ip netns add guest");
    // The end of the TAP that a VMM would hold is joined with another TAP, in a network of its own.
    const joined = await vm.open("exec socat TUN,tun-type=tap,tun-name=tap0,iff-no-pi TUN,tun-type=tap,tun-name=tap1,iff-no-pi");
    const ping = (count: number) => vm.run(`ping -c ${count} -i 0.2 -W 2 10.99.0.2`);
    try {
      await bash(vm, "for n in {1..100}; do [ -e /sys/class/net/tap1 ] && break; sleep 0.1; done; ip link set tap0 master br0 up");
      await bash(vm, "ip link set tap1 netns guest && ip -n guest addr add 10.99.0.2/24 dev tap1 && ip -n guest link set tap1 up");
      await bash(vm, "ping -c 20 -i 0.2 -W 2 10.99.0.2 | grep -q ' 0% packet loss' || ping -c 1 -W 5 10.99.0.2");
      const rules = "table bridge t { chain f { type filter hook input priority 0; iifname tap0 icmp type echo-reply counter; }; }";
      await bash(vm, `nft '${rules}'`);
      expect((await ping(5)).stdout).toContain("5 received");
      expect(await bash(vm, "nft list table bridge t")).toContain("counter packets 5 ");
      await bash(vm, "nft insert rule bridge t f iifname tap0 icmp type echo-reply drop");
      expect((await ping(2)).stdout).toContain(" 0 received");
      await bash(vm, "nft delete table bridge t");
      expect((await ping(2)).stdout).toContain("2 received");
    } finally {
      await joined.kill();
      await vm.run("ip link del br0; ip netns del guest");
    }
  });

  it("delays packets by netem", async () => {
    const leastMs = async () => Number(/= ([\d.]+)\//.exec(await bash(vm, "ping -c 5 -i 0.2 127.0.0.1"))?.[1]);
    expect(await leastMs()).toBeLessThan(100);
    await bash(vm, "tc qdisc add dev lo root netem delay 100ms");
    expect(await leastMs()).toBeGreaterThanOrEqual(200); // there and back
    await bash(vm, "tc qdisc del dev lo root");
  });

  it("runs many commands at once, tells their ends apart, and carries large output and files whole", async () => {
    const many = await Promise.all(Array.from({ length: 20 }, (_, n) => vm.run(`cat; echo err >&2; exit ${n}`, { input: `in ${n}` })));
    expect(many).toEqual(many.map((_, n) => ({ code: n, signal: undefined, stdout: `in ${n}`, stderr: "err\n" })));
    expect(await vm.run("kill -TERM $$")).toMatchObject({ code: undefined, signal: "SIGTERM" });
    expect((await vm.run(["printf", "%s|", "a b", "$HOME", "it's"])).stdout).toBe("a b|$HOME|it's|");
    expect((await vm.run("head -c 8M /dev/zero")).stdout.length).toBe(8 * 2 ** 20);
    expect(await vm.run("exec sleep 600", { timeoutMs: 300 })).toMatchObject({ signal: "SIGKILL" });
    const dir = await mkdtemp(join(tmpdir(), "pitwall-copied-"));
    try {
      const content = Buffer.from(Array.from({ length: 100_000 }, (_, n) => (n * 7) % 256));
      await writeFile(join(dir, "there"), content, { mode: 0o640 });
      await vm.copyIn(join(dir, "there"), "/tmp/a folder");
      expect(await bash(vm, "stat -c '%a %s' '/tmp/a folder/there'")).toBe("640 100000");
      await rm(join(dir, "there"));
      await vm.copyOut("/tmp/a folder/there", dir);
      expect((await readFile(join(dir, "there"))).equals(content)).toBe(true);
      await expect(vm.copyOut("/nowhere", dir)).rejects.toThrow("/nowhere was not copied out of the node VM");
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it("sees this repository, and runs its Node", async () => {
    expect(await bash(vm, "node -p 'process.version + require(\"/pitwall/package.json\").name'")).toBe(`${process.version}pitwall`);
    expect((await vm.run("touch /pitwall/x")).stderr).toContain("Read-only file system");
  });

  it("loses with the power what was not flushed, also what the disk had taken, and nothing else", async () => {
    const write = (file: string, how: string) =>
      `printf '%-4096s' ${file} | dd of=/data/${file} bs=4096 iflag=fullblock ${how} status=none`;
    // Room that is written to in place: no journal of the file system's is in the way.
    await bash(vm, "for f in flushed taken kept; do head -c 4096 /dev/zero > /data/$f; done; sync");
    await bash(vm, write("flushed", "conv=notrunc,fsync"));
    await bash(vm, write("taken", "oflag=direct conv=notrunc")); // the disk has it, and nobody told it to keep it
    await bash(vm, "echo young > /data/never");
    expect(await vm.powerCut()).toBeGreaterThan(0);
    await expect(vm.run("true")).rejects.toThrow("is off");
    await vm.restart();
    expect(await bash(vm, "head -c 7 /data/flushed; tr -d '\\0' < /data/taken | wc -c; ls /data")).toBe(
      "flushed0\nflushed\nkept\nlost+found\ntaken",
    );

    await bash(vm, write("kept", "oflag=direct conv=notrunc"));
    await vm.powerCut({ keep: 1 });
    await vm.restart();
    expect(await bash(vm, "head -c 4 /data/kept")).toBe("kept");

    await bash(vm, "echo orderly > /data/orderly");
    await vm.shutDown();
    await vm.restart();
    expect(await bash(vm, "cat /data/orderly; dmesg | grep -c 'recovery complete' || true")).toBe("orderly\n0");
  });
});

describe.skipIf(!image)(`two node VMs${whyNot}`, () => {
  let pair: NodeVmPair;
  beforeAll(async () => {
    pair = await startNodeVmPair({ image: image!, memMib: 1024, cpus: 1 });
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());
  const reaches = async (vm: NodeVm, address: string | undefined) => (await vm.run(`ping -c 3 -i 0.2 -W 2 ${address}`)).code === 0;

  it("reach each other over the wire, by IPv4 and IPv6, and by ssh", async () => {
    const { a, b } = pair;
    expect([a.wire?.address, b.wire?.address]).toEqual(["192.168.77.1", "192.168.77.2"]);
    for (const address of [a.wire?.peerAddress, a.wire?.peerAddress6]) expect(await reaches(a, address)).toBe(true);
    expect(await reaches(b, b.wire?.peerAddress)).toBe(true);
    expect(await bash(a, "ssh 192.168.77.2 hostname")).toBe("node-b");
  });

  it("lose each other when the wire is cut, on one way or both, and find each other when it is mended, also after a power cut", async () => {
    const { a, b, wire } = pair;
    await bash(
      b,
      "nft 'table netdev t { chain c { type filter hook ingress device wire0 priority 0; ip saddr 192.168.77.1 icmp type echo-request counter; }; }'",
    );
    const seen = async () => Number(/packets (\d+)/.exec(await bash(b, "nft list table netdev t"))?.[1]);
    await wire.cut("b");
    const before = await seen();
    expect(await reaches(a, a.wire?.peerAddress)).toBe(false);
    expect(await seen()).toBeGreaterThan(before); // the other way is whole
    await wire.cut();
    const then = await seen();
    expect(await reaches(a, a.wire?.peerAddress)).toBe(false);
    expect(await seen()).toBe(then);
    expect(await bash(a, "cat /sys/class/net/wire0/carrier")).toBe("1");
    await wire.mend();
    expect(await reaches(a, a.wire?.peerAddress)).toBe(true);
    await a.wire?.plug(false);
    expect(await bash(a, "sleep 1; cat /sys/class/net/wire0/carrier")).toBe("0");
    await a.wire?.plug(true);
    await b.powerCut();
    expect(await reaches(a, a.wire?.peerAddress)).toBe(false);
    await b.restart();
    expect(await reaches(a, a.wire?.peerAddress)).toBe(true);
  });
});

describe.skipIf(!image)(`npm run node-vm${whyNot}`, () => {
  it("ends with the command's exit code, keeps the disk that it was told to, and tells it as JSON", async () => {
    const dir = await mkdtemp(join(tmpdir(), "pitwall-node-vm-cli-"));
    try {
      const line = ["--mem", "1024", "--keep-disk", join(dir, "disk"), "--share", dir];
      const first = await runHere([...main, ...line, "--", "echo kept > /data/file; echo in > /share/note; echo out; exit 7"], {
        timeoutMs: 170_000,
      });
      expect(first, first.stderr).toMatchObject({ code: 7, stdout: "out\n" });
      expect(await readFile(join(dir, "note"), "utf8")).toBe("in\n");
      const second = await runHere([...main, ...line, "--json", "--", "cat", "/data/file"], { timeoutMs: 170_000 });
      expect(second.code, second.stderr).toBe(0);
      expect(JSON.parse(second.stdout)).toMatchObject({
        node: "node",
        code: 0,
        stdout: "kept\n",
        stderr: "",
        bootMs: expect.any(Number) as number,
      });
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it("leaves no process behind when it is killed", async () => {
    const dir = await mkdtemp(join(tmpdir(), "pitwall-node-vm-killed-"));
    try {
      const child = spawn(process.execPath, [mainFile, "--mem", "1024", "--", "sleep", "600"], {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, TMPDIR: dir },
      });
      for await (const text of createInterface({ input: child.stderr })) if (text.includes("is up")) break;
      const children = await childrenOf(child.pid!);
      expect(children).toHaveLength(2); // QEMU, and virtiofsd for this repository
      child.kill("SIGKILL");
      const deadline = systemClock.monotonicMs() + 20_000;
      while (children.some(isAlive) && systemClock.monotonicMs() < deadline) await systemClock.sleep(50);
      expect(children.filter(isAlive)).toEqual([]);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});

/** The processes that a process has started. */
async function childrenOf(parent: number): Promise<ProcessIdentity[]> {
  const pids = (await readdir("/proc")).map(Number).filter((pid) => pid > 0);
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")));
  const children = pids.filter((_, at) => stats[at]!.split(") ").at(-1)?.split(" ")[1] === String(parent));
  return children.flatMap((pid) => identify(pid) ?? []);
}
