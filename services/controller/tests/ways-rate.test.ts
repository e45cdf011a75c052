// How often a principal may open ways into VMs, by whatever they have, and that others do not pay for it.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { sshLineOf } from "@pitwall/auth";
import type { Caller } from "@pitwall/proto/pitwall/v1/access.ts";
import { ProjectRole } from "@pitwall/proto/pitwall/v1/project.ts";
import { afterAll, expect, it } from "vitest";
import { admin, startControllers } from "./support/controllers.ts";
import { startNode } from "./support/node.ts";
import { refusalOf } from "./support/refusals.ts";
import { joinGateway } from "./support/spoken-node.ts";

const parts = new AsyncDisposableStack();
afterAll(() => parts.disposeAsync());

/** One at once, and so seldom that none comes back while the test runs. */
const perSecond = 0.01;

it("whoever opens more than they may is told when to come back, by key as by sign-in, and nobody else is", async () => {
  const pitwall = parts.use(await startControllers(1, { PITWALL_WAYS_PER_SECOND: String(perSecond) }));
  parts.use(await startNode(pitwall, { name: "one" }));
  const [ada, bob] = [await pitwall.as("ada"), await pitwall.as("bob")];
  await ada.projects.createProject({ name: "team" });
  await ada.projects.setProjectMember({ project: "team", subject: "bob", role: ProjectRole.PROJECT_ROLE_MEMBER });
  await ada.vms.createVm({ project: "team", name: "web", spec: { image: pitwall.image } });
  const { id: vm = "" } = (await ada.vms.waitVm({ vm: "team/web" })).vm ?? {};
  const gateway = parts.use(await joinGateway(pitwall, await pitwall.as(admin), "door")).access(pitwall.controllers[0]?.link ?? "");
  const sshPublicKey = sshLineOf(generateKeyPairSync("ed25519").publicKey);
  await ada.profile.addSshKey({ publicKey: sshPublicKey });
  const enter = async (credential: Caller["credential"]): Promise<string> => {
    const about = { vm, token: randomBytes(32).toString("base64url"), gatewayAddress: "127.0.0.1:1" };
    return refusalOf(gateway.openTunnel({ caller: { credential }, ...about, target: { target: { $case: "tcp", value: { port: 80 } } } }));
  };
  const signIn = async (user: string): Promise<Caller["credential"]> => ({ $case: "bearerToken", value: await pitwall.token(user) });
  const [bySignIn, byKey] = [await signIn("ada"), { $case: "sshPublicKey" as const, value: sshPublicKey }];
  expect(await enter(bySignIn)).toBe("OK");
  const refusal = /^RESOURCE_EXHAUSTED too many ways into VMs: at most 0\.01 a second, after 1 at once/;
  expect([await enter(bySignIn), await enter(byKey)]).toEqual([expect.stringMatching(refusal), expect.stringMatching(refusal)]);
  expect(await enter(await signIn("bob"))).toBe("OK");
  expect(await refusalOf(bob.vms.getVm({ vm }))).toBe("OK");
}, 60_000);
