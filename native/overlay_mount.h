// Puts the kernel's overlayfs in the place of a FUSE mount that is one of its layers. src/native.ts
// documents it as `stackOverlay`.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fd_guard.h"
#include "fs_context.h"

namespace composefs::overlay {

/** What is to be stacked on what. Strings hold no NUL. */
struct Plan {
  /** Where the FUSE mount is, and its superblock's device number as stat(2) shows it. */
  std::string mountpoint;
  uint32_t device_major, device_minor;
  /** `name` or `name=value`, all but the layers. */
  std::vector<std::string> options;
  /** Directories of objects, O_PATH. */
  std::vector<FdGuard> data;
  /** upperdir and workdir, O_PATH; empty without a writable layer. */
  std::vector<FdGuard> writable;
  /** MOUNT_ATTR_* of <linux/mount.h>. */
  uint32_t attributes;
};

using Outcome = MountOutcome;

/**
 * Blocks on the FUSE mount, so it must run in a thread that does not serve it. On failure the FUSE
 * mount may still be there, the overlay is not.
 */
Outcome Stack(const Plan& plan);

}  // namespace composefs::overlay
