// The web port's TLS certificate, from two files that whoever renews it replaces. A pair that does not fit leaves the one before in use:
// between the replacing of one file and of the other there is none that does.
import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import { PitwallError, type Log } from "@pitwall/runtime";

/** Asked for by stat: the files may be links to a folder that is swapped, of which a watch would not hear. */
const askEveryMs = 1_000;

export interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
}

export interface Certificate extends Disposable {
  readonly context: SecureContextOptions;
}

/** Calls `renewed` with each new pair until it is disposed. Throws `invalid` when the files do not make one. */
export function openCertificate(files: CertificateFiles, renewed: (context: SecureContextOptions) => void, log: Log): Certificate {
  let context = read(files);
  const reload = (): void => {
    try {
      const next = read(files);
      if (next.cert === context.cert && next.key === context.key) return;
      context = next;
      renewed(next);
      log.info("the TLS certificate was renewed");
    } catch (error) {
      log.warn("the TLS certificate cannot be renewed: the one before stays", { error });
    }
  };
  for (const path of [files.certificate, files.key]) watchFile(path, { interval: askEveryMs, persistent: false }, reload);
  return {
    context,
    [Symbol.dispose]() {
      for (const path of [files.certificate, files.key]) unwatchFile(path, reload);
    },
  };
}

function read({ certificate, key }: CertificateFiles): SecureContextOptions & { cert: string; key: string } {
  try {
    const context = { cert: readFileSync(certificate, "utf8"), key: readFileSync(key, "utf8"), minVersion: "TLSv1.2" } as const;
    createSecureContext(context);
    return context;
  } catch (cause) {
    throw new PitwallError(
      "invalid",
      "configuration: PITWALL_TLS_CERT, PITWALL_TLS_KEY: the files do not hold a certificate in PEM and its key",
      {
        reason: "INVALID_CONFIG",
        cause,
      },
    );
  }
}
