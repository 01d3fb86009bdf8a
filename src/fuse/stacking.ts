// The overlayfs that a mount gets on top, if it gets one: for --data overlay, for a writable layer, or
// for both. Decides what it is made of; overlay-mount.ts makes it.

import type { TreeView } from '../filesystem/tree-view.ts';
import type { Image } from '../image-reader/index.ts';
import type { NativeAddon } from '../native.ts';
import type { VerityPolicy } from '../objects/verification.ts';
import type { DataMode } from './data-mode.ts';
import type { FuseMount, MountWishes } from './mounting.ts';
import {
  NO_PRIVILEGE,
  noOverlay,
  overlayView,
  stackOverlay,
  whyNoOverlay,
} from './overlay-mount.ts';
import type { WritableLayer } from './writable-layer.ts';

export interface StackingOptions {
  data: DataMode;
  writable: WritableLayer | undefined;
  verification: { policy: VerityPolicy };
  mount: Omit<MountWishes, 'mountpoint'>;
}

export class Stacking {
  readonly #native: NativeAddon;
  readonly #options: StackingOptions;

  constructor(native: NativeAddon, options: StackingOptions) {
    this.#native = native;
    this.#options = options;
  }

  get isWanted(): boolean {
    return this.#isData || this.#options.writable !== undefined;
  }

  /** What is to be written is refused by the kernel. */
  get isReadOnly(): boolean {
    return this.#options.mount.flags.includes('ro');
  }

  /** What the FUSE mount shows. */
  get view(): TreeView {
    const wanted = this.isWanted ? overlayView(this.#isData) : undefined;
    return wanted ?? 'composefs';
  }

  /** Throws MountError if an overlayfs is wanted and cannot be had, as far as can be told beforehand. */
  require(mountpoint: string, image: Image, basedirs: readonly number[], stackDepth: number): void {
    if (!this.isWanted) return;
    const reason = this.#isData
      ? whyNoOverlay(this.#native, image, { policy: this.#options.verification.policy, basedirs })
      : whyNoWritable(stackDepth);
    if (reason !== undefined) throw noOverlay(mountpoint, this.#isData, reason);
  }

  /** Stacks it on a FUSE mount that is being served. The mount that is to be unmounted from then on. */
  async stack(
    fuse: FuseMount,
    mountpoint: string,
    basedirs: readonly number[],
    writable: readonly number[],
  ): Promise<FuseMount> {
    const { mount, verification } = this.#options;
    const stacked = await stackOverlay(this.#native, fuse, {
      view: this.view,
      policy: verification.policy,
      basedirs,
      writable,
      mount: { ...mount, mountpoint },
    });
    if (typeof stacked === 'string') throw noOverlay(mountpoint, this.#isData, stacked);
    return stacked;
  }

  get #isData(): boolean {
    return this.#options.data === 'overlay';
  }
}

function whyNoWritable(stackDepth: number): string | undefined {
  if (overlayView(false) === undefined) return NO_PRIVILEGE;
  if (stackDepth < 2) return undefined;
  return (
    'the objects are on an overlayfs, and with --data passthrough on top of it the kernel says: ' +
    'maximum fs stacking depth exceeded; choose another --data'
  );
}
