// Short-lived certificates that open one VM to one user by SSH: made, and believed again when a gateway shows one.
import { randomBytes, type KeyObject } from "node:crypto";
import { believeSshCertificate, issueSshCertificate, readSshCertificate, sshLineOf, type SshCertificate } from "@pitwall/auth";
import type { SshCertificateLogin } from "@pitwall/proto/pitwall/v1/access.ts";
import type { IssueSshCertificateRequest, IssueSshCertificateResponse } from "@pitwall/proto/pitwall/v1/vm.ts";
import { invalid, type Clock } from "@pitwall/runtime";
import type { Mutations } from "../mutation/mutations.ts";
import type { Principal } from "../projects/principal.ts";
import { reachVm } from "../projects/reach.ts";
import type { Store } from "../store/store.ts";
import { refuseLocked } from "./locks.ts";
import { parseSshKey } from "../vm/ssh-keys.ts";

const lifeSeconds = 600n;
/** A connection may open further ways into the VM for so long after its login. */
const loginLimitMs = 86_400_000;
const skewMs = 30_000;
const nonceBytes = 32;
const extensions = ["permit-port-forwarding", "permit-pty"];

export interface SshCertificatesParts {
  readonly store: Store;
  readonly mutations: Mutations;
  /** Of the installation, an ed25519 key. */
  readonly authority: KeyObject;
  readonly clock: Pick<Clock, "wallMs">;
}

/** Whom a certificate speaks of. */
export interface CertifiedUser {
  readonly subject: string;
  /** Ids of VMs. */
  readonly vms: readonly string[];
}

export class SshCertificates {
  readonly #parts: SshCertificatesParts;
  readonly #authority: string;

  constructor(parts: SshCertificatesParts) {
    this.#parts = parts;
    this.#authority = sshLineOf(parts.authority);
  }

  /** Throws `not-found` and `denied` as for any use of the VM, and `invalid` for a key that is not ed25519. */
  async issue(caller: Principal, { vm, publicKey }: IssueSshCertificateRequest): Promise<IssueSshCertificateResponse> {
    const { line, fingerprint } = parseSshKey(publicKey, "public_key");
    if (!line.startsWith("ssh-ed25519 ")) throw invalid("public_key", "must be an ed25519 key: make one for this certificate");
    const { store, mutations, authority, clock } = this.#parts;
    const row = await reachVm(store.read(), caller, vm, "member");
    await refuseLocked(store.read(), row, caller.subject);
    const nowSeconds = BigInt(Math.floor(clock.wallMs() / 1_000));
    const validBefore = nowSeconds + lifeSeconds;
    const certificate = issueSshCertificate(authority, {
      ...{ publicKey: line, nonce: randomBytes(nonceBytes), serial: randomBytes(8).readBigUInt64BE(), keyId: caller.subject },
      ...{ principals: [row.id], validAfter: nowSeconds, validBefore, extensions },
    });
    readSshCertificate(Buffer.from(certificate.split(" ")[1] ?? "", "base64")); // a subject that no certificate can have is found here
    await mutations.note(caller, "VmService/IssueSshCertificate", {
      object: `vm/${row.id}`,
      projectId: row.projectId,
      detail: { name: row.name, key: fingerprint },
    });
    return { certificate, expireTime: new Date(Number(validBefore) * 1_000) };
  }

  /** Whom it speaks of, at this moment. Throws `invalid` and `unauthenticated`. */
  userNow(certificate: Uint8Array): CertifiedUser {
    return userOf(this.#believe(certificate, this.#parts.clock.wallMs()));
  }

  /** The same for a login that a gateway saw earlier; what is open since may last as long as it likes. */
  userAtLogin({ certificate, loginTime }: SshCertificateLogin, isOpen = false): CertifiedUser {
    const nowMs = this.#parts.clock.wallMs();
    const loginMs = loginTime?.getTime();
    if (loginMs === undefined || loginMs > nowMs + skewMs || (!isOpen && loginMs < nowMs - loginLimitMs))
      throw invalid("caller.ssh_certificate.login_time", "must be within the last 24 hours");
    return userOf(this.#believe(certificate, loginMs));
  }

  #believe(certificate: Uint8Array, atMs: number): SshCertificate {
    const expected = { authority: this.#authority, principal: undefined, atSeconds: BigInt(Math.floor(atMs / 1_000)) };
    return believeSshCertificate(Buffer.from(certificate), expected);
  }
}

function userOf({ keyId, principals }: SshCertificate): CertifiedUser {
  return { subject: keyId, vms: principals };
}
