// What the controller asks of the image cache, answered.
import type { ImageAnswer, ImageCommand } from "@pitwall/proto/pitwall/v1/link.ts";
import { messageChain, PitwallError } from "@pitwall/runtime";
import type { ImageCache } from "./cache.ts";
import { credentialsFrom } from "./credential.ts";

/** Never rejects: a refusal is an answer. */
export async function answer(images: ImageCache, { requestId, command }: ImageCommand, signal: AbortSignal): Promise<ImageAnswer> {
  const done: ImageAnswer = { requestId, reason: "", message: "", inventory: undefined, freed: undefined };
  try {
    switch (command?.$case) {
      case "inventory": {
        const list = await images.list();
        return {
          ...done,
          inventory: {
            images: list.map(({ digest, references, baseBytes, layerBytes }) => ({
              digest,
              references: [...references],
              baseBytes: BigInt(baseBytes),
              layerBytes: BigInt(layerBytes),
            })),
          },
        };
      }
      case "pull":
        await images.ensure(command.value.image, command.value.digest, signal, credentialsFrom(command.value.credential));
        return done;
      case "free": {
        const { digests, baseBytes, layerBytes, digestsInUse } = await images.free(command.value);
        return {
          ...done,
          freed: {
            digests: [...digests],
            baseBytes: BigInt(baseBytes),
            layerBytes: BigInt(layerBytes),
            digestsInUse: [...digestsInUse],
          },
        };
      }
      case undefined:
        return { ...done, reason: "UNKNOWN_COMMAND", message: "this node's agent does not know the command" };
    }
  } catch (error) {
    if (error instanceof PitwallError) return { ...done, reason: error.reason || "INTERNAL", message: error.message };
    return { ...done, reason: "INTERNAL", message: `the node met an error: ${messageChain(error)}` };
  }
}
