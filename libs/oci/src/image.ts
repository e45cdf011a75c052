// The words of this library: a resolved image, its layers, and where they can be read.
import type { Readable } from "node:stream";
import type { CredentialsFor } from "./credentials.ts";

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
  /** How the image wants to be asked whether it is well; undefined when it says nothing. */
  healthcheck: Healthcheck | undefined;
  /** Folders for data that outlives the process. */
  volumes: string[];
  /** What builds and `CMD-SHELL` checks run commands with. */
  shell: string[];
  onBuild: string[];
  architecture: string;
  variant: string;
  os: string;
  osVersion: string;
  osFeatures: string[];
  /** All else that is set, dotted name to JSON: `config.Tty` to `true`. */
  others: Record<string, string>;
}

/** Docker's extension of the image configuration. A time or count of 0 is the runtime's default. */
export interface Healthcheck {
  /** Empty: as the base image has it. `NONE`, `CMD` and arguments, or `CMD-SHELL` and a command. */
  test: string[];
  intervalMs: number;
  timeoutMs: number;
  startPeriodMs: number;
  startIntervalMs: number;
  retries: number;
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

/** How an image is asked for. */
export interface Asking {
  /** Pins it where the tag may have moved. */
  readonly digest?: string;
  /** Who asks. For registries of which this knows nothing, and without it, the installation's own credentials count. */
  readonly credentialsFor?: CredentialsFor | undefined;
}

/** Where images come from. */
export interface ImageSources {
  /** Finds an image. Throws `not-found`, `state` (other platform), `denied`, `unavailable`, `corrupt`. */
  resolve(reference: string, signal: AbortSignal, asking?: Asking): Promise<ResolvedImage>;
  /** The stored bytes of a layer, not yet verified: {@link LayerStore} does that. */
  openBlob(
    reference: string,
    image: ResolvedImage,
    layer: LayerDescriptor,
    signal: AbortSignal,
    credentialsFor?: CredentialsFor,
  ): Promise<Readable>;
}
