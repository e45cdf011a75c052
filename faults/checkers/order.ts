// Whether things that were seen to happen, each somewhere between two moments, can have happened one after the other: Wing and Gong's search,
// which remembers where it has been in vain.

export interface Step<S> {
  readonly fromMs: number;
  /** Infinity: nobody knows whether it ever happened. */
  readonly toMs: number;
  /** All that it can make of a state; empty: it cannot happen there. */
  readonly from: (state: S) => readonly S[];
}

/** `keyOf` tells states apart. */
export function hasOrder<S>(steps: readonly Step<S>[], first: S, keyOf: (state: S) => string): boolean {
  const done = steps.map(() => false);
  const inVain = new Set<string>();

  function goesOn(state: S): boolean {
    // What has ended comes before what began later.
    const limitMs = Math.min(...steps.map(({ toMs }, at) => (done[at] === true ? Infinity : toMs)));
    if (limitMs === Infinity) return true;
    const key = `${done.map(Number).join("")} ${keyOf(state)}`;
    if (inVain.has(key)) return false;
    for (const [at, step] of steps.entries()) {
      if (done[at] === true || step.fromMs > limitMs) continue;
      done[at] = true;
      if (step.from(state).some(goesOn)) return true;
      done[at] = false;
    }
    inVain.add(key);
    return false;
  }

  return goesOn(first);
}
