// Signals by name and number, as powerunit reads them (guest/powerunit/internal/supervise, parseSignal).
import { constants } from "node:os";

const lastRealTime = 30;

/** `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. */
export function isKnownSignal(text: string): boolean {
  if (/^\d+$/.test(text)) return Number(text) > 0 && Number(text) < 65;
  const name = text.toUpperCase().replace(/^(?!SIG)/, "SIG");
  const realTime = /^SIGRTMIN\+(\d+)$/.exec(name)?.[1];
  return realTime === undefined ? Object.hasOwn(constants.signals, name) : Number(realTime) <= lastRealTime;
}
