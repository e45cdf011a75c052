// ImageService: the API's words around image sources and the images that nodes hold.
import { ImageServiceDefinition, Parity as WireParity, type ImageServiceImplementation } from "@pitwall/proto/pitwall/v1/image.ts";
import { formatReference, judge, parseReference, type ImageSources, type Parity } from "@pitwall/oci";
import type { Credentials } from "../credentials/credentials.ts";
import type { Images } from "../images/images.ts";
import type { Mutations } from "../mutation/mutations.ts";
import { userOf, type CallerContext } from "./identity.ts";
import type { Pages } from "./page.ts";

const wireParity: Readonly<Record<Parity, WireParity>> = {
  honoured: WireParity.PARITY_HONOURED,
  adapted: WireParity.PARITY_ADAPTED,
  ignored: WireParity.PARITY_IGNORED,
};

interface ImageParts {
  readonly sources: ImageSources;
  readonly images: Images;
  readonly credentials: Credentials;
  readonly mutations: Mutations;
  readonly pages: Pages;
}

export function imageService({ sources, images, credentials, mutations, pages }: ImageParts): ImageServiceImplementation<CallerContext> {
  return {
    async resolveImage({ image, project }, context) {
      const reference = parsed(image);
      const { digest, sizeBytes, config } = await sources.resolve(
        reference,
        context.signal,
        await credentials.onBehalf(userOf(context), project, "viewer"),
      );
      return { image: reference, digest, sizeBytes: BigInt(sizeBytes), config };
    },
    async checkImage({ image, project }, context) {
      const reference = parsed(image);
      const { digest, config } = await sources.resolve(
        reference,
        context.signal,
        await credentials.onBehalf(userOf(context), project, "viewer"),
      );
      return { image: reference, digest, fields: judge(config).map((verdict) => ({ ...verdict, parity: wireParity[verdict.parity] })) };
    },
    async listImages(request, context) {
      const { after, cut } = pages(userOf(context), ["ListImages"], request);
      const { images: all, skippedNodes } = await images.list(context.signal);
      const { page, nextPageToken } = cut(
        all.filter(({ digest }) => digest > after),
        ({ digest }) => digest,
      );
      return { images: page, nextPageToken, skippedNodes: [...skippedNodes] };
    },
    async *pullImage({ image, node, project }, context) {
      const behalf = await credentials.onBehalf(userOf(context), project, "member");
      const record = { object: `image/${parsed(image)}`, projectId: behalf.projectId, detail: { node } };
      await mutations.note(userOf(context), "ImageService/PullImage", record);
      yield* images.pull(image, node, behalf, context.signal);
    },
    async deleteImage(request, context) {
      const { image } = request;
      return mutations.outside({
        service: ImageServiceDefinition,
        method: ImageServiceDefinition.methods.deleteImage,
        caller: userOf(context),
        request,
        record: { object: `image/${image.startsWith("sha256:") ? image : parsed(image)}` },
        work: async () => {
          const { nodes, skippedNodes } = await images.delete(image, context.signal);
          return { nodes: [...nodes], skippedNodes: [...skippedNodes] };
        },
      });
    },
    async collectGarbage({ dryRun }, context) {
      const { signal } = context;
      if (!dryRun) await mutations.note(userOf(context), "ImageService/CollectGarbage", { object: "images" });
      const { nodes, skippedNodes } = await images.collectGarbage(dryRun, signal);
      return { nodes: [...nodes], skippedNodes: [...skippedNodes] };
    },
  };
}

/** The reference in its one spelling. Throws `invalid`. */
function parsed(image: string): string {
  return formatReference(parseReference(image, "image"));
}
