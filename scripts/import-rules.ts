// Who may import whom; check-imports.ts applies it. An exception stands in the rule that it is from, with its why.
import type { ICruiseOptions, IRegularForbiddenRuleType, IResolveOptions } from "dependency-cruiser";

/** Our packages are seen by the files that their names lead to. */
const runtime = "^services/runtime/";
const tests = "[.]test[.]ts$";
const grpc = "^node_modules/(@grpc/grpc-js|nice-grpc)/";
const orm = "^node_modules/@mikro-orm/";
const files = "^(node:)?fs(/promises)?$";
const vmDomain = "^services/controller/src/(vm|nodes|placement|images)/";
const machineDomain = "^services/node/src/machine/";

const forbid = (
  name: string,
  comment: string,
  from: IRegularForbiddenRuleType["from"],
  to: IRegularForbiddenRuleType["to"],
): IRegularForbiddenRuleType => ({
  name,
  comment,
  severity: "error",
  from,
  to,
});

export const rules: readonly IRegularForbiddenRuleType[] = [
  forbid("no-cycles", "Two files that need each other are one file, or three.", {}, { circular: true }),
  forbid("resolvable", "An import must lead somewhere.", {}, { couldNotResolve: true }),
  forbid(
    "no-tests-in-sources",
    "What runs must not need what tests it.",
    { pathNot: [tests, "^[a-z]+/[a-z-]+/tests/", "^(tests|bench|faults|quickstart/tests)/"] },
    { path: [tests, "/tests/", "^(tests|bench|faults)/"] },
  ),
  forbid(
    "main-is-the-top",
    "A composition root starts a process; nothing imports it.",
    {},
    { path: "^services/[^/]+/src/main[.]ts$", pathNot: runtime },
  ),

  // Between folders.
  forbid(
    "no-service-to-service",
    "Services meet on the wire.",
    { path: "^services/([^/]+)/" },
    { path: "^services/", pathNot: ["^services/$1/", runtime] },
  ),
  forbid(
    "runtime-knows-nobody",
    "No noun of Pitwall's domain lives in the plumbing.",
    { path: runtime },
    { path: "^(gen|libs|services|clients|quickstart|scripts)/", pathNot: runtime },
  ),
  forbid(
    "libs-below-services",
    "Libraries use the plumbing and the contract, and no service.",
    { path: "^libs/" },
    { path: "^(services|clients|quickstart|scripts)/", pathNot: runtime },
  ),
  forbid(
    "services-on-their-own",
    "A service does not know who calls it or starts it; its tests may, to be provided with a kernel.",
    { path: "^services/", pathNot: "^services/[^/]+/tests/" },
    { path: "^(clients|quickstart|scripts)/" },
  ),
  forbid(
    "contract-alone",
    "Generated code needs nothing of ours.",
    { path: "^gen/" },
    { path: "^(libs|services|clients|quickstart|scripts)/" },
  ),
  forbid(
    "quickstart-by-the-front-door",
    "It starts services as processes and talks to them through the SDK.",
    { path: "^quickstart/" },
    { path: "^(gen|libs|services|scripts|clients/cli)/", pathNot: runtime },
  ),
  forbid(
    "cli-by-the-front-door",
    "Only the SDK: what the CLI can do, every program can. Exceptions: a push goes from the user's machine to a registry, past Pitwall's API; an audit log is verified without any server.",
    { path: "^clients/cli/", pathNot: ["^clients/cli/src/image/push[.]ts$", "^clients/cli/src/audit/export-file([.]test)?[.]ts$"] },
    { path: "^(gen|libs|services|quickstart|scripts)/" },
  ),
  forbid(
    "cli-push-by-the-library",
    "The exception above, and no more.",
    { path: "^clients/cli/src/image/push[.]ts$" },
    { path: "^(gen|libs|services|quickstart|scripts)/", pathNot: ["^libs/oci/src/index[.]ts$", runtime] },
  ),
  forbid(
    "cli-verifies-by-the-library",
    "The other exception, and no more.",
    { path: "^clients/cli/src/audit/export-file([.]test)?[.]ts$" },
    { path: "^(gen|libs|services|quickstart|scripts)/", pathNot: "^libs/audit/src/index[.]ts$" },
  ),
  forbid(
    "sdk-alone",
    "Programs of others carry it: nothing of ours but its own copy of the contract.",
    { path: "^clients/ts-sdk/" },
    { path: "^(gen|libs|services|quickstart|scripts|clients/cli)/" },
  ),
  forbid("sdk-in-browsers", "No Node.", { path: "^clients/ts-sdk/", pathNot: tests }, { dependencyTypes: ["core"] }),
  forbid(
    "sdk-in-browsers-packages",
    "Nor packages that need Node.",
    { path: "^clients/ts-sdk/", pathNot: tests },
    { path: "^node_modules/", pathNot: "^node_modules/(nice-grpc-web|nice-grpc-common|nice-grpc-error-details|@bufbuild/protobuf)/" },
  ),

  // Inside the controller: main → rpc → use case → pure decision → port.
  forbid(
    "orm-in-store",
    "MikroORM is named where the database is; others take the store's types.",
    { pathNot: "^services/controller/src/store/" },
    { path: orm },
  ),
  forbid("no-grpc-in-vm-domain", "Use cases know faults; rpc/ knows statuses.", { path: vmDomain }, { path: grpc }),
  forbid("no-files-in-vm-domain", "Its state is rows.", { path: vmDomain }, { path: files }),
  forbid(
    "placement-is-pure",
    "It decides from what it is given.",
    { path: "^services/controller/src/placement/", pathNot: tests },
    { pathNot: ["^services/controller/src/placement/", runtime] },
  ),
  forbid(
    "rpc-on-top",
    "Only the composition root mounts handlers.",
    { path: "^services/controller/src/", pathNot: "^services/controller/src/(rpc/|controller[.]ts$)" },
    { path: "^services/controller/src/rpc/" },
  ),
  forbid(
    "store-below",
    "The store knows rows, not those who use them.",
    { path: "^services/controller/src/store/" },
    { path: "^services/controller/src/", pathNot: "^services/controller/src/store/" },
  ),

  // Inside the node: main → link, tunnels → machine → driver.
  forbid("no-grpc-in-machine", "A machine knows its guest, not how that is spoken to.", { path: machineDomain }, { path: grpc }),
  forbid(
    "no-files-in-machine",
    "Effects on the host are host/'s; the machine is given a place for its journal.",
    { path: machineDomain, pathNot: tests },
    { path: files },
  ),
  forbid(
    "machine-below-link",
    "A machine does not know who gives it its assignments.",
    { path: machineDomain },
    { path: "^services/node/src/(link|tunnels)/" },
  ),
  forbid(
    "drivers-in-main",
    "Which VMM runs is main's choice; all others know vmm.ts.",
    { path: "^services/node/src/", pathNot: ["^services/node/src/(qemu|sim)/", "^services/node/src/main[.]ts$", tests] },
    { path: "^services/node/src/(qemu|sim)/" },
  ),
  forbid(
    "drivers-apart",
    "One driver does not use another.",
    { path: "^services/node/src/(qemu|sim)/" },
    { path: "^services/node/src/(qemu|sim)/", pathNot: "^services/node/src/$1/" },
  ),

  // Inside the gateway.
  forbid(
    "ssh2-in-ssh",
    "The SSH library is named where SSH is spoken.",
    { path: "^services/gateway/src/", pathNot: "^services/gateway/src/ssh/" },
    { path: "^node_modules/ssh2/" },
  ),
];

export const options: ICruiseOptions = {
  tsPreCompilationDeps: true, // type imports count
  doNotFollow: { path: "node_modules" },
  exclude: { path: "^clients/[^/]+/dist/" },
  moduleSystems: ["es6"],
  parser: "swc",
};

/** As Node resolves what our files import. */
export const resolution: Partial<IResolveOptions> = {
  conditionNames: ["import", "node", "default"],
  exportsFields: ["exports"],
  extensions: [".ts", ".mjs", ".js"],
};
