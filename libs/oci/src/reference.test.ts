import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatReference, parseReference, parseRegistry, registryOfImage } from "./reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

it.each([
  ["nginx", "docker.io/library/nginx:latest"],
  ["index.docker.io/nginx", "docker.io/library/nginx:latest"],
  ["grafana/grafana:11", "docker.io/grafana/grafana:11"],
  ["localhost/app", "localhost/app:latest"],
  ["127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"],
  ["[::1]:5000/a:1", "[::1]:5000/a:1"],
  [`example.com/a@${digest}`, `example.com/a@${digest}`],
  [`example.com/a:1@${digest}`, `example.com/a:1@${digest}`],
  ["oci:/srv/images", "oci:/srv/images"],
  ["oci:/srv/images:v1", "oci:/srv/images:v1"],
  ["docker-archive:/a.tar:name:tag", "docker-archive:/a.tar:name:tag"],
  ["oci-archive:/a.tar:v1", "oci-archive:/a.tar:v1"],
])("reads %s as %s", (text, canonical) => {
  expect(formatReference(parseReference(text))).toBe(canonical);
  expect(formatReference(parseReference(canonical))).toBe(canonical);
});

it.each([
  ["", "an image reference is needed"],
  ["a b", "holds no white space"],
  ["https://example.com/a", "leave out https://"],
  ["oci:relative", "must be absolute"],
  ["oci-archive:relative", "must be absolute"],
  ["oci:/a:", "is empty"],
  ["example.com/A", "lower-case letters"],
  ["example.com/a/../b", "lower-case letters"],
  ["example.com/a:-x", "a tag is"],
  ["example.com/a@sha256:XYZ", "64 lower-case hex digits"],
  ["exa_mple.com/a", "is not a host"],
  ["user:pass@example.com/a", "64 lower-case hex digits"],
  ["a".repeat(1025), "at most 1024 characters"],
])("refuses %j", (text, message) => {
  expect(() => parseReference(text)).toThrow(message);
});

it("spells every reference it takes in a way that it reads the same", () => {
  const part = fc.stringMatching(/^[a-z0-9]{1,8}$/);
  const parts = fc.array(part, { minLength: 1, maxLength: 3 });
  const tags = fc.option(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}$/), { nil: undefined });
  fc.assert(
    fc.property(
      fc.option(fc.constantFrom("example.com", "localhost:5000", "10.0.0.1:80"), { nil: undefined }),
      parts,
      tags,
      (host, path, tag) => {
        const text = `${host === undefined ? "" : `${host}/`}${path.join("/")}${tag === undefined ? "" : `:${tag}`}`;
        const once = parseReference(text);
        expect(parseReference(formatReference(once))).toEqual(once);
      },
    ),
  );
});

describe("a registry that a credential is for", () => {
  it("has one spelling", () => {
    for (const hub of ["docker.io", "index.docker.io", "Registry-1.docker.io"]) expect(parseRegistry(hub, "registry")).toBe("docker.io");
    expect(parseRegistry("GHCR.io:5000", "registry")).toBe("ghcr.io:5000");
    expect(registryOfImage(parseReference("nginx"))).toBe("docker.io");
    expect(registryOfImage(parseReference("ghcr.io:5000/a/b:c"))).toBe("ghcr.io:5000");
    expect(registryOfImage(parseReference("oci:/a"))).toBeUndefined();
  });

  it.each(["", "https://ghcr.io", "ghcr.io/me", "user@ghcr.io", "a b"])("is not %j", (text) => {
    expect(() => parseRegistry(text, "registry")).toThrow("registry: must be the HOST");
  });
});
