// A read-only loop device over a file, which goes away by itself with its last user.

#pragma once

#include <string>

#include "fd_guard.h"

namespace composefs {

/**
 * The device, bound to the file `fd`, and its path in `path`. It is unbound when the descriptor is
 * closed and nothing mounted uses it (LO_FLAGS_AUTOCLEAR), also if this process is killed. Without
 * one errno is set.
 */
FdGuard OpenLoopDevice(int fd, std::string& path);

}  // namespace composefs
