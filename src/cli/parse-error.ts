// node:util's parseArgs explains itself in several sentences and lines; a command says one.

/** The first sentence of what parseArgs throws, without its full stop. */
export function firstSentence(error: unknown): string {
  return (error as Error).message.split(/\.\s|\.?\n/)[0]!;
}
