// Types of kernels.mjs, which is plain Node: setup runs before there is a compiler.

export type KernelName = 'bullseye' | 'bookworm' | 'trixie';

export type KernelSearch =
  { release: string; image: string; modules: string } | { reason: string; release?: never };

export declare const kernelNames: readonly KernelName[];
export declare function findKernel(name: KernelName): KernelSearch;
export declare function ensureKernels(say: (line: string) => void): void;
