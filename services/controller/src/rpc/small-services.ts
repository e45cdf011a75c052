// The services that need no more than a line per method.
import type { AccessServiceImplementation } from "@pitwall/proto/pitwall/v1/access.ts";
import type { EnrollServiceImplementation } from "@pitwall/proto/pitwall/v1/enroll.ts";
import type { ProfileServiceImplementation } from "@pitwall/proto/pitwall/v1/profile.ts";
import type { Access } from "../access/access.ts";
import type { HostCertificates } from "../access/host-certificates.ts";
import type { RecordingIntake } from "../access/recording-intake.ts";
import type { Enroll } from "../enroll/enroll.ts";
import type { Roster } from "../nodes/roster.ts";
import type { Profiles } from "../profile/profiles.ts";
import { memberIn, userOf, type CallerContext } from "./identity.ts";

export function profileService(
  profiles: Profiles,
  hosts: Pick<HostCertificates, "authorityOf">,
): ProfileServiceImplementation<CallerContext> {
  return {
    async getProfile(_, context) {
      const { subject, username, isAdmin, token } = userOf(context);
      return { subject, username, isAdmin, tokenId: token?.id ?? "", sshHostAuthority: hosts.authorityOf(subject) };
    },
    addSshKey: (request, context) => profiles.addKey(userOf(context), request),
    listSshKeys: async (_, context) => ({ keys: await profiles.listKeys(userOf(context).subject) }),
    async deleteSshKey(request, context) {
      await profiles.deleteKey(userOf(context), request);
      return {};
    },
  };
}

export function enrollService(enroll: Enroll, roster: Roster): EnrollServiceImplementation<CallerContext> {
  return {
    join: (request) => enroll.join(request),
    renew: (request, context) => enroll.renew(memberIn(context), request),
    listControllers: async () => ({ controllers: await roster.present() }),
  };
}

export function accessService(access: Access, intake: RecordingIntake): AccessServiceImplementation<CallerContext> {
  return {
    authorizeSsh: (request) => access.authorizeSsh(request),
    openTunnel: (request, context) => access.openTunnel(request, memberIn(context).id, context.signal),
    checkTunnels: async ({ tunnels }, context) => ({
      ...(await access.check(tunnels)),
      endedSessions: await access.sessions.ending(memberIn(context).id),
    }),
    async endSessions(request, context) {
      await access.sessions.end(memberIn(context).id, request);
      return {};
    },
    async openRecording(request, context) {
      await intake.open(memberIn(context).id, request);
      return {};
    },
    async appendRecording(request, context) {
      await intake.append(memberIn(context).id, request);
      return {};
    },
    async closeRecording(request, context) {
      await intake.close(memberIn(context).id, request);
      return {};
    },
  };
}
