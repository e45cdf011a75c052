// A row's state in the table of lifecycle.ts.
import type { VmRow } from "../store/entities.ts";
import { stateOf, type State } from "./lifecycle.ts";

export function rowState({ desired, phase, deleteTime, restartGeneration, observedGeneration }: VmRow): State {
  return stateOf({
    desired,
    phase,
    isDeleted: deleteTime !== null && deleteTime !== undefined,
    isStartDue: restartGeneration > observedGeneration,
  });
}
