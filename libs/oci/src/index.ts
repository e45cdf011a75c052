// OCI images: what a reference means, where its bytes are, and the one file tree that its layers make.
export { flatten, type StoredLayer } from "./flatten.ts";
export type { ImageConfig, ImageSources, LayerDescriptor, ResolvedImage } from "./image.ts";
export { defaultLimits, type FlattenLimits } from "./limits.ts";
export { listFiles, type ListedFile } from "./list-files.ts";
export { pullLayer } from "./pull.ts";
export { formatReference, parseReference, type ImageReference } from "./reference.ts";
export { openImageSources } from "./sources.ts";
