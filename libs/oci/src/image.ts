// The words of this library: a resolved image, its layers, and where they can be read.
import type { Readable } from "node:stream";

/** How an image wants its process run. Absent values are empty. */
export interface ImageConfig {
  entrypoint: string[];
  cmd: string[];
  /** `NAME=value` each. */
  env: string[];
  user: string;
  workingDir: string;
  stopSignal: string;
  /** `80/tcp` each. */
  exposedPorts: string[];
  labels: Record<string, string>;
  architecture: string;
  os: string;
}

/** One layer, as it is stored. */
export interface LayerDescriptor {
  /** `sha256:…` of the stored blob. */
  digest: string;
  /** `sha256:…` of the decompressed tar. */
  diffId: string;
  /** Size of the stored blob. */
  sizeBytes: number;
  compression: "none" | "gzip" | "zstd";
}

/** An image for this platform, all of it named by digests. */
export interface ResolvedImage {
  /** Canonical spelling of the reference it was found by. */
  reference: string;
  /** Digest of the platform's manifest; of the config blob for a docker-archive, which has no manifest. Usable as a pin. */
  digest: string;
  /** Stored size of all layers. */
  sizeBytes: number;
  config: ImageConfig;
  /** Lowest first. */
  layers: readonly LayerDescriptor[];
}

/** Where images come from. */
export interface ImageSources {
  /** Finds an image; `digest` pins it where the tag may have moved. Throws `not-found`, `state` (other platform), `denied`, `unavailable`, `corrupt`. */
  resolve(reference: string, signal: AbortSignal, digest?: string): Promise<ResolvedImage>;
  /** The stored bytes of a layer, not yet verified: use `pullLayer`. */
  openBlob(reference: string, image: ResolvedImage, layer: LayerDescriptor, signal: AbortSignal): Promise<Readable>;
}
