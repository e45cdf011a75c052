// The node VM's image for a test file, or why it cannot be had here, said aloud.
import { provideNodeVm, type NodeVmImage } from "@pitwall/quickstart";
import { messageChain } from "@pitwall/runtime";

export interface Provided {
  readonly image: NodeVmImage | undefined;
  /** For the names of tests that are skipped; empty where they run. */
  readonly whyNot: string;
}

/** Never rejects. */
export async function provided(): Promise<Provided> {
  try {
    return { image: await provideNodeVm((text) => void process.stderr.write(`${text}\n`)), whyNot: "" };
  } catch (error) {
    const whyNot = ` (no node VM here: ${messageChain(error)})`;
    process.stderr.write(`skipped:${whyNot}\n`);
    return { image: undefined, whyNot };
  }
}
