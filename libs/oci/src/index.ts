// OCI images: what a reference means, where its bytes are, and the one file tree that its layers make.
export { openConfinement, type Confinement } from "./confinement.ts";
export { imageSourceOptions, imageSourceSettings } from "./config.ts";
export type { Credential, CredentialsFor } from "./credentials.ts";
export { flatten } from "./flatten.ts";
export { Flights } from "./flights.ts";
export type { Healthcheck, ImageConfig, ImageSources, LayerDescriptor, ResolvedImage } from "./image.ts";
export type { LayerFile } from "./layer-index.ts";
export { LayerStore, type LeasedLayers, type PullingLayers } from "./layer-store.ts";
export { Leases } from "./leases.ts";
export { Budget, defaultLimits, type FlattenLimits } from "./limits.ts";
export { listFiles, type ListedFile } from "./list-files.ts";
export { ignoredFields, judge } from "./parity/contract.ts";
export { stopsByHalt } from "./parity/fields.ts";
export { surroundings } from "./parity/surroundings.ts";
export type { FieldVerdict, Parity } from "./parity/verdict.ts";
export { formatReference, parseReference, type ImageReference } from "./reference.ts";
export { openImageSources, type ImageSourceOptions } from "./sources.ts";
export { writeImage } from "./write-image.ts";
