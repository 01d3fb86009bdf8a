// Public interface of the composefs-dump(5) text format. Needs neither the addon nor node:fs.

export { dumpImage, dumpImageChunks, type DumpImageOptions } from './from-image.ts';
export { DumpReader, readDump, readDumpStream, type ReadDumpOptions } from './read.ts';
export { writeDump, writeDumpChunks } from './write.ts';
