// An HTTP/2 connection that this gateway opens is up in time, or is not there.
import type { ClientHttp2Session } from "node:http2";

const limitMs = 2_000;

/**
 * Resolves with the session's `connect`, or with the other side's first settings (`remoteSettings`). Rejects with why not, in words that name
 * `address`; then the session is destroyed.
 */
export async function untilUp(session: ClientHttp2Session, event: "connect" | "remoteSettings", address: string): Promise<void> {
  const limit = setTimeout(() => session.destroy(new Error(`${address} does not answer`)), limitMs);
  try {
    await new Promise<void>((resolve, reject) => {
      session
        .once(event, () => resolve())
        .once("error", reject)
        .once("close", () => reject(new Error(`${address} closed the connection`)));
    });
  } catch (error) {
    session.destroy();
    throw error;
  } finally {
    clearTimeout(limit);
  }
}
