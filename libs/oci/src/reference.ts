// What people write to name an image, and its one canonical spelling.
import { invalid } from "@pitwall/runtime";

/** Where an image is. `host` has no scheme; a registry reference has a tag, a digest, or both (then the digest decides). */
export type ImageReference =
  | { kind: "registry"; host: string; repository: string; tag?: string; digest?: string }
  | { kind: "oci"; path: string; tag?: string }
  | { kind: "docker-archive"; path: string; tag?: string }
  | { kind: "oci-archive"; path: string; tag?: string };

const hubHost = "registry-1.docker.io";
const hubNames: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", hubHost]);
const hostPattern = /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/;
const componentPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;
const maxLength = 1024;
const maxRepositoryLength = 255;

/**
 * Parses `nginx`, `host:port/name:tag@sha256:…`, `oci:/folder[:tag]`, `oci-archive:/file.tar[:tag]` or
 * `docker-archive:/file.tar[:name:tag]`; throws `invalid` naming `field`.
 */
export function parseReference(text: string, field = "image"): ImageReference {
  if (text === "") throw invalid(field, "an image reference is needed, such as docker.io/library/nginx:latest");
  if (text.length > maxLength) throw invalid(field, `an image reference has at most ${maxLength} characters, got ${text.length}`);
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\s\u0000-\u001f\u007f]/.test(text)) throw invalid(field, "an image reference holds no white space or control characters");
  for (const kind of ["oci", "docker-archive", "oci-archive"] as const) {
    if (text.startsWith(`${kind}:/`) || text === `${kind}:`) return parseLocal(kind, text.slice(kind.length + 1), field);
  }
  if (/^(?:oci|docker-archive|oci-archive):[^0-9]/.test(text))
    throw invalid(field, `${JSON.stringify(text)}: the path after ${text.split(":")[0]}: must be absolute`);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//.exec(text);
  if (scheme) throw invalid(field, `${JSON.stringify(text)}: leave out ${scheme[0]}, and write host/name:tag`);
  return parseRemote(text, field);
}

function parseLocal(kind: "oci" | "docker-archive" | "oci-archive", rest: string, field: string): ImageReference {
  const colon = rest.indexOf(":");
  const path = colon === -1 ? rest : rest.slice(0, colon);
  if (!path.startsWith("/")) throw invalid(field, `the path after ${kind}: must be absolute`);
  if (colon === -1) return { kind, path };
  const tag = rest.slice(colon + 1);
  if (tag === "") throw invalid(field, `the tag after ${kind}:${path}: is empty`);
  return { kind, path, tag };
}

function parseRemote(text: string, field: string): ImageReference {
  const quoted = JSON.stringify(text);
  const at = text.indexOf("@");
  const digest = at === -1 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !digestPattern.test(digest)) throw invalid(field, "after @ comes sha256: and 64 lower-case hex digits"); // no quote: what comes before may be a password
  const named = at === -1 ? text : text.slice(0, at);
  const colon = named.indexOf(":", named.lastIndexOf("/") + 1);
  const tag = colon === -1 ? undefined : named.slice(colon + 1);
  if (tag !== undefined && !tagPattern.test(tag))
    throw invalid(field, `${quoted}: a tag is 1 to 128 letters, digits, "_", "." or "-", and begins with no "." or "-"`);
  const { host, repository } = splitHost(colon === -1 ? named : named.slice(0, colon));
  if (!hostPattern.test(host)) throw invalid(field, `${quoted}: ${JSON.stringify(host)} is not a host or host:port`);
  if (repository.length > maxRepositoryLength)
    throw invalid(field, `${quoted}: a repository name has at most ${maxRepositoryLength} characters`);
  if (!repository.split("/").every((part) => componentPattern.test(part))) {
    throw invalid(field, `${quoted}: a repository name is lower-case letters and digits, joined by "/", ".", "_" or "-"`);
  }
  const version =
    tag === undefined && digest === undefined
      ? { tag: "latest" }
      : { ...(tag !== undefined && { tag }), ...(digest !== undefined && { digest }) };
  return { kind: "registry", host, repository, ...version };
}

/** The first component is a host when it has a dot or a port or is `localhost`; one-word names of Docker Hub live in `library/`. */
function splitHost(name: string): { host: string; repository: string } {
  const slash = name.indexOf("/");
  const first = slash === -1 ? "" : name.slice(0, slash);
  const isHost = first === "localhost" || /[.:]/.test(first);
  const host = isHost ? first.toLowerCase() : hubHost;
  const repository = isHost ? name.slice(slash + 1) : name;
  if (!hubNames.has(host)) return { host, repository };
  return { host: hubHost, repository: repository.includes("/") ? repository : `library/${repository}` };
}

/** A registry as people name it for a credential, in its one spelling: `docker.io` for Docker Hub. Throws `invalid` naming `field`. */
export function parseRegistry(text: string, field: string): string {
  const host = text.toLowerCase();
  if (host.length > 255 || !hostPattern.test(host)) throw invalid(field, "must be the HOST or HOST:PORT of a registry, without https://");
  return hubNames.has(host) ? "docker.io" : host;
}

/** The registry of an image, spelled as {@link parseRegistry} does; undefined for files. */
export function registryOfImage(reference: ImageReference): string | undefined {
  if (reference.kind !== "registry") return undefined;
  return reference.host === hubHost ? "docker.io" : reference.host;
}

/** The canonical spelling: `parseReference(formatReference(r))` equals `r`. */
export function formatReference(r: ImageReference): string {
  const tag = r.tag === undefined ? "" : `:${r.tag}`;
  if (r.kind !== "registry") return `${r.kind}:${r.path}${tag}`;
  return `${r.host === hubHost ? "docker.io" : r.host}/${r.repository}${tag}${r.digest === undefined ? "" : `@${r.digest}`}`;
}
