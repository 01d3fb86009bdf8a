// Public interface of the image writer. Needs neither the addon nor node:fs.

export type { VersionRange } from './rewrite.ts';
export { type NodeAttributes, ImageTree, INLINE_SIZE_MAX } from './tree.ts';
export type { NodeId } from './nodes.ts';
export { type ImageFacts, ImagePlan, planImage, writeImage } from './write.ts';
