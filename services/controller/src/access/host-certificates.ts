// Certificates of VMs' SSH host keys, made anew for each connection that a VM's own server answers: they tell its caller which VM that is.
import { randomBytes, type KeyObject } from "node:crypto";
import { issueSshHostCertificate, sshLineOf } from "@pitwall/auth";
import type { TunnelTarget } from "@pitwall/proto/pitwall/v1/access.ts";
import { PitwallError, type Clock } from "@pitwall/runtime";
import type { VmRow } from "../store/entities.ts";

/** Before and after the moment: clients' clocks are off by minutes. For so long a VM's node could pass for what was the VM's name. */
const aroundSeconds = 3_600n;
const nonceBytes = 32;

/** Who comes to a VM. */
export interface Coming {
  readonly row: Pick<VmRow, "id" | "name" | "sshHostKey" | "sshHostKeyChanged">;
  readonly subject: string;
  /** Whether the VM's bare name is the subject's own for it. To everybody else the id alone is clear. */
  readonly isByName: boolean;
}

export interface HostCertificatesParts {
  readonly authorityOf: (subject: string) => KeyObject;
  readonly clock: Pick<Clock, "wallMs">;
}

export class HostCertificates {
  readonly #parts: HostCertificatesParts;

  constructor(parts: HostCertificatesParts) {
    this.#parts = parts;
  }

  /** `ssh-ed25519 AAAA…` of who signs what this user is shown. */
  authorityOf(subject: string): string {
    return sshLineOf(this.#parts.authorityOf(subject));
  }

  /** The same way into a VM, with a certificate if the client is to speak with the VM's own server; none is left of what the target said. */
  certified({ target }: TunnelTarget, coming: Coming | undefined): TunnelTarget {
    if (target?.$case !== "ssh" && target?.$case !== "limitedSsh") return { target };
    const hostCertificate = coming ? this.#issue(coming) : "";
    if (target.$case === "ssh") return { target: { ...target, value: { ...target.value, hostCertificate } } };
    return { target: { ...target, value: { ...target.value, hostCertificate } } };
  }

  /** Empty for a key that is not what the VM's placement began with: whoever pinned that one must not be told that this one is as good. */
  #issue({ row, subject, isByName }: Coming): string {
    if (row.sshHostKey === "" || row.sshHostKeyChanged) return "";
    const { authorityOf, clock } = this.#parts;
    const nowSeconds = BigInt(Math.floor(clock.wallMs() / 1_000));
    try {
      return issueSshHostCertificate(authorityOf(subject), {
        ...{ publicKey: row.sshHostKey, nonce: randomBytes(nonceBytes), serial: randomBytes(8).readBigUInt64BE(), keyId: row.id },
        ...{ principals: isByName ? [row.id, row.name] : [row.id] },
        ...{ validAfter: nowSeconds - aroundSeconds, validBefore: nowSeconds + aroundSeconds },
      });
    } catch (error) {
      if (error instanceof PitwallError && error.fault === "invalid") return ""; // a node may say of a key whatever it likes
      throw error;
    }
  }
}
