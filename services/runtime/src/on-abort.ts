// Many that listen to one signal.

const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls back when the signal aborts, unless what this returns was called before. For the many that share one signal: each listener of a
 * signal's own costs as much as there are others.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const known = waiting.get(signal);
  const callbacks = known ?? new Set();
  if (!known) {
    waiting.set(signal, callbacks);
    signal.addEventListener("abort", () => callbacks.forEach((one) => one()), { once: true });
  }
  callbacks.add(callback);
  return () => callbacks.delete(callback);
}
