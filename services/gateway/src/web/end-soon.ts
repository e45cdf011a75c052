// How a connection ends that has been answered, and that nobody reads any more.
import type { Duplex } from "node:stream";

/** For the other side to read the answer, and to end. */
const lingerMs = 2_000;

/**
 * Sends what is left, and has closed it `lingerMs` later. Until then what comes is read and thrown away: bytes that nobody reads would hide the
 * other side's end, for good, and closed at once they would take the answer with them (RFC 9112 section 9.6).
 */
export function endSoon(socket: Duplex, last?: string): void {
  const late = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(late)).on("error", () => undefined);
  socket.end(last);
  socket.resume();
}
