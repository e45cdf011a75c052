// ImageService: the API's words around image sources and the images that nodes hold.
import { Parity as WireParity, type ImageServiceImplementation } from "@pitwall/proto/pitwall/v1/image.ts";
import { formatReference, judge, parseReference, type ImageSources, type Parity } from "@pitwall/oci";
import type { Credentials } from "../credentials/credentials.ts";
import type { Images } from "../images/images.ts";
import { userOf, type CallerContext } from "./identity.ts";
import { pageLimit, pageOf } from "./page.ts";

const wireParity: Readonly<Record<Parity, WireParity>> = {
  honoured: WireParity.PARITY_HONOURED,
  adapted: WireParity.PARITY_ADAPTED,
  ignored: WireParity.PARITY_IGNORED,
};

interface ImageParts {
  readonly sources: ImageSources;
  readonly images: Images;
  readonly credentials: Credentials;
}

export function imageService({ sources, images, credentials }: ImageParts): ImageServiceImplementation<CallerContext> {
  return {
    async resolveImage({ image, project }, context) {
      const reference = formatReference(parseReference(image, "image"));
      const { digest, sizeBytes, config } = await sources.resolve(
        reference,
        context.signal,
        await credentials.onBehalf(userOf(context), project, "viewer"),
      );
      return { image: reference, digest, sizeBytes: BigInt(sizeBytes), config };
    },
    async checkImage({ image, project }, context) {
      const reference = formatReference(parseReference(image, "image"));
      const { digest, config } = await sources.resolve(
        reference,
        context.signal,
        await credentials.onBehalf(userOf(context), project, "viewer"),
      );
      return { image: reference, digest, fields: judge(config).map((verdict) => ({ ...verdict, parity: wireParity[verdict.parity] })) };
    },
    async listImages({ pageSize, pageToken }, { signal }) {
      const limit = pageLimit(pageSize);
      const { images: all, skippedNodes } = await images.list(signal);
      const rest = all.filter(({ digest }) => digest > pageToken).map((image) => ({ ...image, name: image.digest }));
      const { page, nextPageToken } = pageOf(rest, limit);
      return { images: page, nextPageToken, skippedNodes: [...skippedNodes] };
    },
    async *pullImage({ image, node, project }, context) {
      yield* images.pull(image, node, await credentials.onBehalf(userOf(context), project, "member"), context.signal);
    },
    async deleteImage({ image }, { signal }) {
      const { nodes, skippedNodes } = await images.delete(image, signal);
      return { nodes: [...nodes], skippedNodes: [...skippedNodes] };
    },
    async collectGarbage({ dryRun }, { signal }) {
      const { nodes, skippedNodes } = await images.collectGarbage(dryRun, signal);
      return { nodes: [...nodes], skippedNodes: [...skippedNodes] };
    },
  };
}
