// Fetches the controller's CA certificate and accepts it only by its fingerprint.
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { PitwallError } from "@pitwall/runtime";

const limitMs = 10_000;

/** PEM of the CA in the chain that `address` presents. Throws `unauthenticated` when none has the fingerprint, `unavailable` when nobody answers. */
export async function fetchPinnedCa(address: { host: string; port: number }, fingerprint: string): Promise<string> {
  const { host, port } = address;
  // The chain is judged below, by the fingerprint; the name in it by the connection that follows.
  const socket = connect({ host, port, rejectUnauthorized: false, ALPNProtocols: ["h2"], ...(isIP(host) === 0 && { servername: host }) });
  socket.setTimeout(limitMs, () => socket.destroy(new Error("no answer")));
  try {
    await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    for (const certificate of chain(socket.getPeerCertificate(true))) {
      if (createHash("sha256").update(certificate.raw).digest("hex") !== fingerprint) continue;
      const lines = certificate.raw.toString("base64").match(/.{1,64}/g) ?? [];
      return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
    }
  } catch (cause) {
    throw new PitwallError("unavailable", `the controller at ${host}:${port} does not answer`, { reason: "CONTROLLER_UNREACHABLE", cause });
  } finally {
    socket.destroy();
  }
  const message = `${host}:${port} is not the controller that made this join string: its CA has another fingerprint`;
  throw new PitwallError("unauthenticated", message, { reason: "CONTROLLER_UNKNOWN" });
}

function* chain(leaf: DetailedPeerCertificate): Generator<DetailedPeerCertificate> {
  const seen = new Set<string>();
  for (let next: DetailedPeerCertificate | undefined = leaf; next && !seen.has(next.fingerprint256); next = next.issuerCertificate) {
    seen.add(next.fingerprint256);
    yield next;
  }
}
