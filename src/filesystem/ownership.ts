// Who owns what in the mount: ids of the image to ids of the mount. Plain data that threads can be given,
// and the look-ups that are made of it. Nothing is allocated per look-up.

/** `count` ids of the image from `image` on are those from `host` on in the mount. */
export interface IdRange {
  image: number;
  host: number;
  count: number;
}

/** How ids of one kind are mapped. */
export interface IdRule {
  /** They do not overlap. */
  ranges: readonly IdRange[];
  /** What an id in none of them becomes; undefined leaves it as it is. */
  otherwise: number | undefined;
  /**
   * The ids that exist in the user namespace of the mount, as ranges `[from, to)`; undefined if all do.
   * Of an ACL that names another one the kernel makes EINVAL for everybody who comes to the file.
   */
  existing: readonly (readonly [from: number, to: number])[] | undefined;
}

export interface OwnershipRules {
  uids: IdRule;
  gids: IdRule;
}

/** (uid_t)-1, which is no id. */
export const NO_ID = 0xffff_ffff;

/** One kind of ids. */
export class IdMap {
  /** Triples: first id of the image, the id after the last one, and what is to be added. */
  readonly #ranges: Float64Array;
  readonly #otherwise: number;
  /** Pairs. */
  readonly #existing: Float64Array | undefined;

  constructor({ ranges, otherwise, existing }: IdRule) {
    this.#ranges = Float64Array.from(
      ranges.flatMap(({ image, host, count }) => [image, image + count, host - image]),
    );
    this.#otherwise = otherwise ?? -1;
    this.#existing = existing === undefined ? undefined : Float64Array.from(existing.flat());
  }

  /** The id that the mount shows for an id of the image. */
  toMount(id: number): number {
    const ranges = this.#ranges;
    for (let i = 0; i < ranges.length; i += 3) {
      if (id >= ranges[i]! && id < ranges[i + 1]!) return id + ranges[i + 2]!;
    }
    return this.#otherwise < 0 ? id : this.#otherwise;
  }

  /** Whether an id of the mount exists in its user namespace. */
  exists(id: number): boolean {
    const existing = this.#existing;
    if (existing === undefined) return true;
    for (let i = 0; i < existing.length; i += 2) {
      if (id >= existing[i]! && id < existing[i + 1]!) return true;
    }
    return false;
  }
}

/** Both kinds. */
export class Ownership {
  readonly uids: IdMap;
  readonly gids: IdMap;

  constructor({ uids, gids }: OwnershipRules) {
    this.uids = new IdMap(uids);
    this.gids = new IdMap(gids);
  }
}
