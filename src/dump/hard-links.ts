// The hard link lines of a dump. Their targets may come later in the text, so they are kept as paths
// and resolved at the end.

import { DumpError } from '../errors.ts';
import { S_IFDIR, S_IFMT } from '../image-reader/format.ts';
import { NODE, type NodeId, type NodeTable } from '../image-writer/nodes.ts';
import { U32List } from '../image-writer/u32-list.ts';
import { Field, FIELD_NAMES } from './fields.ts';
import { quote } from './line-reader.ts';
import type { Places } from './places.ts';

/** One per reader of dumps. */
export class HardLinks {
  readonly #nodes: NodeTable;
  readonly #links: U32List = new U32List();
  readonly #lines: U32List = new U32List();

  constructor(nodes: NodeTable) {
    this.#nodes = nodes;
  }

  /** Remembers that `link` is one more name of what is at the path. */
  add(link: NodeId, line: number, path: Uint8Array, start: number, end: number): void {
    this.#links.push(link);
    this.#lines.push(line);
    const { words, heap } = this.#nodes;
    // Until resolve() the two words hold the path.
    words[link * NODE.WORDS + NODE.CONTENT] = heap.add(path, start, end);
    words[link * NODE.WORDS + NODE.OBJECT] = end - start;
  }

  /** Points every link to its final node. Throws DumpError. */
  resolve(places: Places): void {
    for (let i = 0; i < this.#links.length; i++) this.#findTarget(i, places);
    for (let i = 0; i < this.#links.length; i++) this.#followChain(i);
  }

  #findTarget(index: number, places: Places): void {
    const { words, heap } = this.#nodes;
    const link = this.#links.items[index]!;
    const base = link * NODE.WORDS;
    const path = heap.view(words[base + NODE.CONTENT]!, words[base + NODE.OBJECT]!);
    const target = places.lookup(path, 0, path.length);
    if (target < 0) this.#fail(index, `there is nothing at ${quote(path)} to link to`);
    if (target === link) this.#fail(index, 'a hard link to itself');
    words[base + NODE.CONTENT] = target;
    words[base + NODE.OBJECT] = 0;
  }

  /** Every link of the chain is pointed to its end, so that no chain is followed twice. */
  #followChain(index: number): void {
    const nodes = this.#nodes;
    const chain: NodeId[] = [];
    let node = this.#links.items[index]!;
    while (nodes.isHardLink(node)) {
      chain.push(node);
      if (chain.length > this.#links.length) this.#fail(index, 'hard links that form a circle');
      node = nodes.words[node * NODE.WORDS + NODE.CONTENT]!;
    }
    if ((nodes.mode(node) & S_IFMT) === S_IFDIR) {
      this.#fail(index, 'a hard link to a directory');
    }
    for (const link of chain) nodes.words[link * NODE.WORDS + NODE.CONTENT] = node;
  }

  #fail(index: number, what: string): never {
    const field = FIELD_NAMES[Field.PAYLOAD];
    throw new DumpError(`field ${Field.PAYLOAD + 1} (${field}): ${what}`, {
      line: this.#lines.items[index]!,
      field,
    });
  }
}
