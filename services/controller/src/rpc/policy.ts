// Who may call what: one line per method, and a refusal for what has none.
import type { Role } from "../ca/ca.ts";

/** `anyone`: the call itself proves something (a join token). `user`, `admin`: a JWT. A role: a member's certificate, on the link port. */
export type Policy = "anyone" | "user" | "admin" | Role | "member";

const everyMethod: Readonly<Record<string, Policy>> = {
  "pitwall.v1.VmService": "user",
  "pitwall.v1.NodeService": "user",
  "pitwall.v1.ImageService": "user",
  "pitwall.v1.ProfileService": "user",
  "pitwall.v1.LinkService": "node",
  "pitwall.v1.AccessService": "gateway",
  "grpc.reflection.v1.ServerReflection": "user",
  "grpc.health.v1.Health": "anyone",
};

const exceptions: Readonly<Record<string, Policy>> = {
  "/pitwall.v1.NodeService/CreateJoinToken": "admin",
  "/pitwall.v1.ImageService/DeleteImage": "admin",
  "/pitwall.v1.ImageService/CollectGarbage": "admin",
  "/pitwall.v1.EnrollService/Join": "anyone",
  "/pitwall.v1.EnrollService/Renew": "member",
};

/** `path` is `/package.Service/Method`. */
export function policyOf(path: string): Policy | undefined {
  const service = path.split("/")[1] ?? "";
  return exceptions[path] ?? (Object.hasOwn(everyMethod, service) ? everyMethod[service] : undefined);
}
