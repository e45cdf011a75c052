// Which variables each service reads, and the flags they become: PITWALL_LINK_LISTEN is --link-listen.
// tests/service-flags.test.ts holds this table to what the services' config.ts read.

export const serviceNames = ["controller", "node", "gateway", "issuer"] as const;
export type ServiceName = (typeof serviceNames)[number];

/** `path` and `paths` (separated by commas) are made absolute; `text` is passed on as it is. */
type Kind = "text" | "path" | "paths";

export interface ServiceFlag {
  readonly variable: `PITWALL_${string}`;
  readonly placeholder: string;
  readonly kind: Kind;
  readonly says: string;
  /** As --help shows it; empty where there is none. */
  readonly default: string;
  /** Without a value it means `true`. */
  readonly isSwitch: boolean;
  /** May be given several times; the values are joined by commas. */
  readonly isRepeated: boolean;
}

function flag(variable: `PITWALL_${string}`, placeholder: string, says: string, by: Partial<ServiceFlag> = {}): ServiceFlag {
  return { variable, placeholder, says, kind: "text", default: "", isSwitch: false, isRepeated: false, ...by };
}

/** Where a service keeps its state unless it is told. */
export function defaultStateDir(service: ServiceName): string {
  return `/var/lib/pitwall/${service}`;
}

function everyService(service: ServiceName): readonly ServiceFlag[] {
  return [
    flag("PITWALL_STATE_DIR", "dir", "the service's own folder", { kind: "path", default: defaultStateDir(service) }),
    flag("PITWALL_LOG_LEVEL", "level", "debug, info, warn or error", { default: "info" }),
  ];
}

const images = [
  flag("PITWALL_IMAGE_ROOTS", "dirs", "folders that oci: and docker-archive: references may point into; without any they are refused", {
    kind: "paths",
  }),
  flag("PITWALL_INSECURE_REGISTRIES", "hosts", "host:port of registries on plain HTTP, also on private addresses"),
  flag("PITWALL_PRIVATE_REGISTRIES", "hosts", "host:port of registries with TLS on private addresses"),
  flag("PITWALL_REGISTRY_MIRRORS", "pairs", "HOST=MIRROR,…: hosts asked before a registry, in order"),
  flag("PITWALL_REGISTRY_CA_FILE", "file", "certificate authorities (PEM) besides the public ones", { kind: "path" }),
  flag("PITWALL_REGISTRY_CREDENTIALS_FILE", "file", "a file like ~/.docker/config.json", { kind: "path" }),
];
const join = [
  flag("PITWALL_JOIN", "string", "what `pitwall join-token` prints; for the first start only"),
  flag("PITWALL_JOIN_FILE", "file", "a file with that string", { kind: "path" }),
];
const operations = flag("PITWALL_OPS_LISTEN", "host:port", "where /healthz, /readyz and /metrics are served", { default: "nowhere" });
const tokens = [
  flag("PITWALL_ISSUER", "url", "the OIDC issuer of users' tokens"),
  flag("PITWALL_AUDIENCE", "word", "the audience of users' tokens", { default: "pitwall" }),
  flag("PITWALL_JWKS_URL", "url", "where the issuer's keys are", { default: "where its discovery document says" }),
  flag("PITWALL_TOKEN_ALGORITHMS", "words", "what the issuer signs with", { default: "RS256,PS256,ES256,EdDSA" }),
  flag("PITWALL_TOKEN_CLIENTS", "words", "clients of the issuer whose tokens count", { default: "any" }),
  flag("PITWALL_TOKEN_MAX_AGE", "duration", "how long ago a token may have been issued", { default: "24h" }),
];

export const serviceFlags: Readonly<Record<ServiceName, readonly ServiceFlag[]>> = {
  controller: [
    ...everyService("controller"),
    flag("PITWALL_LISTEN", "host:port", "where the API is served", { default: "127.0.0.1:7000" }),
    flag("PITWALL_LINK_LISTEN", "host:port", "where nodes and gateways connect", { default: "127.0.0.1:7001" }),
    operations,
    flag("PITWALL_ADVERTISE", "names", "names and addresses in its certificate; the first is in join strings", {
      default: "the hosts it listens on",
    }),
    flag("PITWALL_DATABASE_URL", "url", "PostgreSQL; prefer the variable when it holds a password", { default: "an embedded PostgreSQL" }),
    flag("PITWALL_DATABASE_MIGRATOR_URL", "url", "the same database as the role that owns the schema", {
      default: "PITWALL_DATABASE_URL",
    }),
    ...tokens,
    flag("PITWALL_ADMIN_SUBJECTS", "subjects", "who is an administrator"),
    ...images,
    flag("PITWALL_BOOTSTRAP_DIR", "dir", "where join strings for a node and a gateway are put at each start", { kind: "path" }),
    flag("PITWALL_CA_DIR", "dir", "the certificate authority that all controllers share", {
      kind: "path",
      default: "ca in the state folder",
    }),
    flag("PITWALL_SECRETS_KEY_FILE", "file", "what credentials of projects are sealed with", {
      kind: "path",
      default: "secrets.key in the CA's folder",
    }),
    flag("PITWALL_HEARTBEAT", "duration", "how often nodes are heard of", { default: "1s" }),
    flag("PITWALL_LEASE", "duration", "how long a silent node counts as ready", { default: "10s" }),
    flag("PITWALL_READS_PER_SECOND", "number", "how often one principal may read, on average", { default: "200" }),
    flag("PITWALL_KEEP_ANSWERS", "duration", "how long answers to request ids are remembered", { default: "24h" }),
    flag("PITWALL_KEEP_EVENTS", "duration", "how long events are kept, by which watches go on", { default: "24h" }),
    flag("PITWALL_KEEP_RECORDINGS", "duration", "how long recordings of SSH sessions are kept", { default: "30d" }),
    flag("PITWALL_RECORDING_LIMIT", "size", "one recording, with which its session ends", { default: "64Mi" }),
    flag("PITWALL_RECORDINGS_PER_PROJECT", "size", "all recordings of a project, beyond which sessions are refused", { default: "4Gi" }),
    flag("PITWALL_WAYS_PER_SECOND", "number", "how often one principal may open a way into a VM, on average", { default: "200" }),
    flag("PITWALL_CHANGES_PER_SECOND", "number", "how often one principal may change something, on average", { default: "100" }),
  ],
  node: [
    ...everyService("node"),
    ...join,
    operations,
    flag("PITWALL_NAME", "name", "the node's name", { default: "the host's name" }),
    flag(
      "PITWALL_LABEL",
      "key=value",
      "a label of the node, unless its join token gave it others; several nodes that are simulated take turns at KEY=A|B|C",
      {
        isRepeated: true,
      },
    ),
    flag("PITWALL_DRIVER", "driver", "auto, firecracker, qemu or sim", { default: "auto" }),
    flag("PITWALL_FIRECRACKER_BIN", "file", "the Firecracker program", { kind: "path" }),
    flag("PITWALL_JAILER_BIN", "file", "its jailer, of the same release", { kind: "path" }),
    flag("PITWALL_JAIL_UIDS", "range", "user ids for VMs, START:COUNT, that nothing else on the host has", { default: "1900000000:4096" }),
    flag("PITWALL_KERNEL", "file", "the guest kernel", { kind: "path", default: "/var/lib/pitwall/vmlinux" }),
    flag("PITWALL_MODULES_DIR", "dir", "the guest kernel's modules (.ko)", { kind: "path", default: "/var/lib/pitwall/modules" }),
    flag("PITWALL_POWERUNIT", "file", "the guest's init", { kind: "path", default: "/var/lib/pitwall/powerunit" }),
    flag("PITWALL_FENCE", "file", "the program that ends VMs when the lease is lost", {
      kind: "path",
      default: "the init's path and -fence",
    }),
    flag("PITWALL_CACHE_DIR", "dir", "where pulled images are kept", { kind: "path", default: "images in the state folder" }),
    flag("PITWALL_CAPACITY_CPU_MILLIS", "number", "thousandths of a CPU that VMs may have", { default: "measured" }),
    flag("PITWALL_CAPACITY_MEM", "size", "memory that VMs may have", { default: "measured" }),
    flag("PITWALL_OVERCOMMIT_CPU", "ratio", "virtual CPUs for each real one, where the capacity is measured", { default: "4" }),
    flag("PITWALL_OVERCOMMIT_MEM", "ratio", "memory that VMs may have for what there is, where it is measured", { default: "1" }),
    flag("PITWALL_OVERCOMMIT_DISK", "ratio", "disk that VMs may have for what is free, where it is measured", { default: "1" }),
    flag("PITWALL_BOOT_TIMEOUT", "duration", "how long a guest may take to get ready", { default: "2m" }),
    flag("PITWALL_IMAGE_TIMEOUT", "duration", "how long pulling and converting an image may take", { default: "30m" }),
    flag("PITWALL_CAPACITY_DISK", "size", "disk that VMs may have", { default: "measured" }),
    flag("PITWALL_SIMULATE", "script", "simulate nodes; the script, a YAML file, says what goes wrong", { kind: "path", isSwitch: true }),
    flag("PITWALL_COUNT", "number", "how many nodes to simulate; they are called NAME-1, NAME-2, …", { default: "1" }),
    flag("PITWALL_SEED", "text", "what the simulation's chances are drawn from", { default: "1" }),
    flag("PITWALL_NETWORK", "kind", "user: each VM has QEMU's own; bridge: a network of the host's, as root", { default: "user" }),
    flag("PITWALL_SUBNET", "network", "where VMs have their addresses, on a network of the host's own", { default: "172.30.0.0/16" }),
    flag("PITWALL_DNS", "addresses", "servers for names that VMs may ask", { default: "the host's" }),
    flag("PITWALL_EGRESS_ALLOW", "networks", "private networks that VMs may reach"),
    flag("PITWALL_EGRESS_DENY", "networks", "public networks that VMs may not reach, such as the controllers'"),
    flag("PITWALL_TRACE", "file", "where the simulation writes its events, a line of JSON each", { kind: "path" }),
    ...images,
  ],
  gateway: [
    ...everyService("gateway"),
    ...join,
    flag("PITWALL_NAME", "name", "the gateway's name", { default: "gateway" }),
    flag("PITWALL_LISTEN", "host:port", "where gRPC-Web, gRPC and HTTP are served", { default: "127.0.0.1:8080" }),
    operations,
    flag("PITWALL_WORKERS", "number", "processes that serve; auto: one for each core", { default: "1" }),
    flag("PITWALL_MAX_CONNECTIONS", "number", "connections of the web port at once", { default: "10000" }),
    flag("PITWALL_MAX_CONNECTIONS_PER_SOURCE", "number", "the same, from one address", { default: "1000" }),
    flag("PITWALL_MAX_CALLS", "number", "calls at once", { default: "10000" }),
    flag("PITWALL_MAX_CALLS_PER_SOURCE", "number", "the same, from one address", { default: "2000" }),
    flag("PITWALL_MAX_CALLS_PER_CONNECTION", "number", "the same, on one connection of HTTP/2", { default: "250" }),
    flag("PITWALL_MAX_CALLS_PER_PRINCIPAL", "number", "calls at once of one person, or of one API token", { default: "500" }),
    flag("PITWALL_PENALTY_EXEMPT", "networks", "whose connections of the web port are never refused for what came from there before", {
      default: "127.0.0.0/8,::1",
    }),
    flag("PITWALL_MAX_MESSAGE", "size", "one message of a call's requests", { default: "4Mi" }),
    flag("PITWALL_MAX_CALL", "size", "all requests of a call", { default: "64Gi" }),
    flag("PITWALL_MAX_HEADERS", "size", "headers of a request", { default: "16Ki" }),
    flag("PITWALL_HEADERS_TIMEOUT", "duration", "until a request's headers have come", { default: "10s" }),
    flag("PITWALL_REQUEST_TIMEOUT", "duration", "until a gRPC-Web request has come, whole", { default: "1m" }),
    flag("PITWALL_IDLE_TIMEOUT", "duration", "how long a connection of HTTP/2 is kept without a call", { default: "5m" }),
    flag("PITWALL_STALE_AFTER", "duration", "how long ways into VMs stay open while no controller says that they may", { default: "5m" }),
    flag("PITWALL_SSH_LISTEN", "host:port", "where SSH is served", { default: "127.0.0.1:2222" }),
    flag("PITWALL_SSH_ADVERTISE", "host:port", "what SSH clients are told to dial", { default: "the SSH listener's address" }),
    flag("PITWALL_SSH_GREETING_TIMEOUT", "duration", "how long an SSH client may take until it begins to log in", { default: "10s" }),
    flag("PITWALL_SSH_LOGIN_TIMEOUT", "duration", "how long it may take until it has", { default: "60s" }),
    flag("PITWALL_SSH_TRIES", "number", "refused tries to log in on one SSH connection", { default: "6" }),
    flag("PITWALL_SSH_STARTUPS", "from:full", "from how many SSH connections without a login on some are dropped, and always one", {
      default: "50:100",
    }),
    flag("PITWALL_SSH_PENALTY_EXEMPT", "networks", "whose SSH connections are never refused for what came from there before", {
      default: "127.0.0.0/8,::1",
    }),
    flag("PITWALL_SSH_CONNECTIONS_PER_PRINCIPAL", "number", "SSH connections at once of one user", { default: "500" }),
    flag("PITWALL_SSH_SESSIONS", "number", "sessions at once on one SSH connection", { default: "10" }),
    flag("PITWALL_SSH_CHANNELS", "number", "sessions and forwards at once on one SSH connection", { default: "32" }),
    flag("PITWALL_SSH_IDLE_TIMEOUT", "duration", "how long an SSH connection may last without a byte; 0s: for ever", { default: "30m" }),
    flag("PITWALL_SSH_MAX_DURATION", "duration", "how long an SSH connection may last at all; 0s: for ever", { default: "0s" }),
    flag("PITWALL_TUNNEL_LISTEN", "host:port", "where nodes dial", { default: "127.0.0.1:7443" }),
    flag("PITWALL_TUNNEL_ADVERTISE", "host:port", "what nodes are told to dial", { default: "the tunnel listener's address" }),
    ...tokens,
    flag("PITWALL_INGRESS_DOMAIN", "domain", "below which VMs have host names: HOST.DOMAIN and PORT-HOST.DOMAIN", { default: "none" }),
    flag("PITWALL_INGRESS_IDLE_TIMEOUT", "duration", "how long a request to a port of a VM may go on without a byte", { default: "5m" }),
    flag("PITWALL_CONSOLE_DIR", "dir", "the web console's files, served with the API", { kind: "path", default: "none" }),
    flag("PITWALL_CORS_ORIGINS", "origins", "origins of web consoles, or *"),
    flag("PITWALL_TLS_CERT", "file", "the web port's certificate and those above it (PEM), read again when the file changes", {
      kind: "path",
    }),
    flag("PITWALL_TLS_KEY", "file", "the certificate's key (PEM)", { kind: "path" }),
    flag("PITWALL_INSECURE_CLEARTEXT", "true", "serve other machines without TLS, as behind a balancer that speaks it", { isSwitch: true }),
    flag("PITWALL_UPSTREAM", "host:port", "serve this gRPC server alone, on cleartext HTTP/2 on loopback: no controller, no SSH, no VMs"),
    flag("PITWALL_INSECURE_NO_AUTH", "true", "ask nobody for a token, which an --upstream needs; on loopback only", { isSwitch: true }),
  ],
  issuer: [
    ...everyService("issuer"),
    flag("PITWALL_LISTEN", "host:port", "a loopback address: this issuer asks for no password", { default: "127.0.0.1:9000" }),
    flag("PITWALL_AUDIENCE", "word", "the audience of its tokens", { default: "pitwall" }),
  ],
};

/** `--link-listen` of `PITWALL_LINK_LISTEN`. */
export function flagName({ variable }: Pick<ServiceFlag, "variable">): string {
  return `--${variable.slice("PITWALL_".length).toLowerCase().replaceAll("_", "-")}`;
}

/** `linkListen`, as commander names the option's value. */
export function optionKey({ variable }: Pick<ServiceFlag, "variable">): string {
  return variable
    .slice("PITWALL_".length)
    .toLowerCase()
    .replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
