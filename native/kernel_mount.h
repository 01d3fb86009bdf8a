// The kernel's own composefs mount: erofs from the image, overlayfs over it. src/native.ts
// documents it as `mountKernel`.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fd_guard.h"
#include "fs_context.h"

namespace composefs::kernel {

// KERNEL_WAYS of src/native.ts.
constexpr uint32_t kFromFile = 1, kFromLoop = 2, kDetachedLayers = 4, kNamespaceLayers = 8;

/** What is to be mounted. Strings hold no NUL, paths are absolute. */
struct Plan {
  /** The image, open for reading. */
  FdGuard image;
  std::string mountpoint;
  /** `name` or `name=value`, all but source and layers. */
  std::vector<std::string> erofs_options, overlay_options;
  /** Directories of objects; and upperdir and workdir, or none. */
  std::vector<std::string> data, upper;
  /** A user namespace whose mapping the layer gets, or none. */
  FdGuard idmap;
  /** MOUNT_ATTR_* of <linux/mount.h>. */
  uint32_t attributes;
  uint32_t ways;
};

/**
 * Mounts it on top of what is on the mountpoint. Until the last call everything hangs on
 * descriptors of this process, so that killing it leaves nothing behind. On success `step` is
 * `file` or `loop`.
 */
MountOutcome Mount(const Plan& plan);

}  // namespace composefs::kernel
