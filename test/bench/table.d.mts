// Types of table.mjs, which is plain Node: the benchmark runs without a compiler.

import type { Result } from './result.d.mts';

export function reasonsOf(result: Result): string[];
export function toText(result: Result): string;
export function toMarkdown(result: Result): string;
