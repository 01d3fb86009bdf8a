// What of an image is shown: the tree that it means, or the layer that it is.

/**
 * `composefs`: what overlayfs makes of the image. `layer`: the image as it is, for an overlayfs above
 * that makes it. `lower`: the tree, for an overlayfs above that only adds a writable layer and shall find
 * nothing of its own in it. `user-layer` and `user-lower`: the same for an overlayfs in a user namespace
 * (its mount option userxattr), which keeps its own attributes in `user.overlay.*` instead of
 * `trusted.overlay.*`.
 */
export type TreeView = 'composefs' | 'layer' | 'user-layer' | 'lower' | 'user-lower';

/** Whether the image is shown as it is: with whiteouts, and with no way to the objects. */
export function isLayer(view: TreeView): boolean {
  return view === 'layer' || view === 'user-layer';
}

/** Whether an overlayfs with userxattr is above. */
export function isBelowUserOverlay(view: TreeView): boolean {
  return view === 'user-layer' || view === 'user-lower';
}
