// fs-verity digests in user space.

export { DESCRIPTOR, encodeDescriptor } from './descriptor.ts';
export type { BlockHasher, DigestEngine, FileHasher } from './engine.ts';
export { createNativeEngine, nativeVariants } from './engine-native.ts';
export { nobleEngine } from './engine-noble.ts';
export { nodeEngine } from './engine-node.ts';
export { measureBytes, measureFile, measureStream } from './measure.ts';
export type { MeasureFileOptions, MeasureOptions } from './measure.ts';
export { measureFiles } from './measure-files.ts';
export type { FileMeasurement, MeasureFilesOptions } from './measure-files.ts';
export { MerkleBuilder, MerkleTree } from './merkle.ts';
export type { MerkleResult } from './merkle.ts';
export { resolveParameters, toHex } from './parameters.ts';
export type { DigestAlgorithm, VerityOptions, VerityParameters } from './parameters.ts';
export type { FilePath, Measurement } from './records.ts';
