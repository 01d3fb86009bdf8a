// What of an image is shown: the tree that it means, or the layer that it is.

/**
 * `composefs`: what overlayfs makes of the image. `layer`: the image as it is, for an overlayfs above
 * that makes it. `user-layer`: the same for an overlayfs in a user namespace (its mount option
 * userxattr), which keeps its own attributes in `user.overlay.*` instead of `trusted.overlay.*`.
 */
export type TreeView = 'composefs' | 'layer' | 'user-layer';
