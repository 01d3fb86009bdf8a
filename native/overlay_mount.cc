#include "overlay_mount.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

namespace composefs::overlay {
namespace {

/** The FUSE root below the directories of objects, whose own names are not shown. */
bool SetLayers(const FsContext& context, const FdGuard& root, const std::vector<FdGuard>& data) {
  if (context.Set("lowerdir+", root.get())) {
    return std::all_of(data.begin(), data.end(), [&](const FdGuard& directory) {
      return context.Set("datadir+", directory.get());
    });
  }
  // Linux before 6.13 takes no descriptors, and before 6.7 all layers in one string.
  std::string layers = PathOf(root);
  for (const FdGuard& directory : data) layers += "::" + PathOf(directory);
  return context.Set("lowerdir", layers);
}

/** False where the kernel takes no such layer. */
bool SetWritable(const FsContext& context, const std::vector<FdGuard>& writable) {
  constexpr const char* kNames[] = {"upperdir", "workdir"};
  for (size_t i = 0; i < writable.size(); i++) {
    // Linux before 6.13 takes no descriptors.
    if (!context.Set(kNames[i], writable[i].get()) &&
        !context.Set(kNames[i], PathOf(writable[i]))) {
      return false;
    }
  }
  return true;
}

/** Where the FUSE mount was is the overlay then. False with errno set. */
bool TakePlace(const FdGuard& overlay, const FdGuard& root, const std::string& mountpoint) {
  const unsigned beneath = kFromEmptyPath | kToEmptyPath | kBeneath;
  const std::string fuse = PathOf(root);
  if (syscall(kSysMoveMount, overlay.get(), "", root.get(), "", beneath) == 0) {
    // Below the FUSE mount, so that at no time the mountpoint shows what it hides.
    if (umount2(fuse.c_str(), MNT_DETACH) == 0) return true;
    const int error = errno;
    umount2(PathOf(overlay).c_str(), MNT_DETACH);
    errno = error;
    return false;
  }
  // Not possible where mounts propagate in certain ways.
  if (umount2(fuse.c_str(), MNT_DETACH) < 0) return false;
  return syscall(kSysMoveMount, overlay.get(), "", AT_FDCWD, mountpoint.c_str(), kFromEmptyPath) ==
         0;
}

}  // namespace

Outcome Stack(const Plan& plan) {
  FsContext context;
  const auto failed = [&context](std::string step) -> Outcome {
    const int error = -errno;
    return {error, std::move(step), context.Said()};
  };
  const FdGuard root(open(plan.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat st;
  if (!root || fstat(root.get(), &st) < 0) return failed("opening the FUSE mount");
  if (major(st.st_dev) != plan.device_major || minor(st.st_dev) != plan.device_minor) {
    return {-ESTALE, "opening the FUSE mount", ""};
  }
  if (!context.Open("overlay")) return failed("fsopen");
  for (const std::string& option : plan.options) {
    if (!context.Set(option)) return failed(option.substr(0, option.find('=')));
  }
  if (!SetLayers(context, root, plan.data)) return failed("layers");
  if (!SetWritable(context, plan.writable)) return failed("writable");
  if (!context.Create()) return failed("create");
  const FdGuard overlay(context.Mount(plan.attributes));
  if (!overlay) return failed("fsmount");
  if (!TakePlace(overlay, root, plan.mountpoint)) return failed("move_mount");
  return {};
}

}  // namespace composefs::overlay
