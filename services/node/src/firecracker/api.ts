// Firecracker's API over its UNIX socket: the calls that a node makes, each reply checked. Limits of what is sent are the API's own
// (src/firecracker/swagger/firecracker.yaml in its sources), so that a wrong value never leaves the node.
import { lstat } from "node:fs/promises";
import { Agent, request, type RequestOptions } from "node:http";
import { PitwallError } from "@pitwall/runtime";
import { z } from "zod";

const maxReplyBytes = 1 << 16;
const callLimitMs = 5_000;
/** Making the VM, with all of its memory. */
const startLimitMs = 30_000;

const bucket = z.strictObject({
  size: z.number().int().positive(),
  /** Milliseconds. */
  refill_time: z.number().int().positive(),
  one_time_burst: z.number().int().nonnegative().optional(),
});
const rateLimiter = z.strictObject({ bandwidth: bucket.optional(), ops: bucket.optional() });
const jailPath = z.string().regex(/^\/[a-z0-9._-]+$/, "must be a name at the top of the jail");

/** What each call takes. */
const bodies = {
  "/machine-config": z.strictObject({ vcpu_count: z.number().int().min(1).max(32), mem_size_mib: z.number().int().min(1) }),
  "/boot-source": z.strictObject({ kernel_image_path: jailPath, initrd_path: jailPath, boot_args: z.string().max(2_048) }),
  "/drives": z.strictObject({
    drive_id: z.string().regex(/^[a-z0-9_]+$/),
    path_on_host: jailPath,
    is_root_device: z.literal(false),
    is_read_only: z.boolean(),
    cache_type: z.enum(["Unsafe", "Writeback"]),
    rate_limiter: rateLimiter,
  }),
  "/vsock": z.strictObject({ guest_cid: z.number().int().min(3).max(0xffff_ffff), uds_path: jailPath }),
  "/entropy": z.strictObject({ rate_limiter: rateLimiter }),
  "/serial": z.strictObject({ serial_out_path: jailPath, rate_limiter: bucket }),
  "/actions": z.strictObject({ action_type: z.literal("InstanceStart") }),
  "/vm": z.strictObject({ state: z.enum(["Paused", "Resumed"]) }),
} as const;

type Bodies = { readonly [P in keyof typeof bodies]: z.input<(typeof bodies)[P]> };
export type Bucket = z.input<typeof bucket>;
export type RateLimiter = z.input<typeof rateLimiter>;

const instance = z.object({ id: z.string(), state: z.enum(["Not started", "Running", "Paused"]), vmm_version: z.string() });
export type Instance = z.output<typeof instance>;

const refusal = z.object({ fault_message: z.string() });

/** One Firecracker's API. Calls are made one after the other: it answers one at a time. */
export interface Api extends Disposable {
  /** Throws `unavailable` when there is no answer, or another one than the API's. */
  describe(): Promise<Instance>;
  /** Throws `unavailable` with Firecracker's `fault_message` when it refuses, `internal` for what is beyond the API's limits. */
  put<P extends Exclude<keyof Bodies, "/vm">>(path: P, body: Bodies[P]): Promise<void>;
  setState(state: Bodies["/vm"]["state"]): Promise<void>;
}

interface Reply {
  readonly status: number;
  readonly text: string;
}

/**
 * `path` leads into the VM's jail, where Firecracker could put something else in the socket's place: it is used only while it is a socket
 * of `uid`.
 */
export function openApi(path: string, uid: number): Api {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const silent = (cause: unknown): PitwallError =>
    new PitwallError("unavailable", "Firecracker's API does not answer", { reason: "VMM_SILENT", cause });

  async function call(method: string, url: string, body: unknown, limitMs: number): Promise<Reply> {
    try {
      await checkSocket(path, uid);
      return await exchange({ socketPath: path, agent, method, path: url, signal: AbortSignal.timeout(limitMs) }, body);
    } catch (error) {
      throw silent(error);
    }
  }

  async function send(method: string, url: string, body: unknown, limitMs = callLimitMs): Promise<void> {
    const { status, text } = await call(method, url, body, limitMs);
    if (status === 204) return;
    throw new PitwallError("unavailable", `Firecracker refused ${method} ${url}: ${faultOf(text) ?? `status ${status}`}`, {
      reason: "VMM_REFUSED",
    });
  }

  function checked<P extends keyof Bodies>(url: P, body: Bodies[P]): unknown {
    const parsed = bodies[url].safeParse(body);
    if (parsed.success) return parsed.data;
    const faults = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new PitwallError("invalid", `Firecracker takes no such ${url.slice(1)}: ${faults.join("; ")}`, { reason: "VMM_LIMIT" });
  }

  return {
    async describe() {
      const { status, text } = await call("GET", "/", undefined, callLimitMs);
      if (status !== 200) throw silent(new Error(`status ${status}`));
      const parsed = instance.safeParse(jsonOf(text));
      if (!parsed.success) throw silent(parsed.error);
      return parsed.data;
    },
    async put(url, body) {
      const data = checked(url, body);
      const target = url === "/drives" ? `/drives/${(body as Bodies["/drives"]).drive_id}` : url; // it was parsed as that just now
      await send("PUT", target, data, url === "/actions" ? startLimitMs : callLimitMs);
    },
    setState: (state) => send("PATCH", "/vm", checked("/vm", { state })),
    [Symbol.dispose]: () => agent.destroy(),
  };
}

/** Throws unless there is a socket of `uid` and not a link to some other one. */
export async function checkSocket(path: string, uid: number): Promise<void> {
  const found = await lstat(path);
  if (!found.isSocket() || found.uid !== uid) throw new Error("it is not the socket that was made there");
}

function exchange(options: RequestOptions, body: unknown): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const headers = {
      Accept: "application/json",
      ...(payload && { "Content-Type": "application/json", "Content-Length": payload.length }),
    };
    const sent = request({ ...options, headers }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > maxReplyBytes) sent.destroy(new Error("the reply is too long"));
      });
      response.once("error", reject).once("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.once("error", reject);
    sent.end(payload);
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function faultOf(text: string): string | undefined {
  const parsed = refusal.safeParse(jsonOf(text));
  return parsed.success ? parsed.data.fault_message.slice(0, 512) : undefined;
}
