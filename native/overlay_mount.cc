#include "overlay_mount.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>

namespace composefs::overlay {
namespace {

// <linux/mount.h> has them, but not beside every C library's <sys/mount.h>. The numbers of the
// calls are the same on every architecture.
constexpr long kSysMoveMount = 429, kSysFsopen = 430, kSysFsconfig = 431, kSysFsmount = 432;
constexpr unsigned kFsopenCloexec = 1, kFsmountCloexec = 1;
constexpr unsigned kSetFlag = 0, kSetString = 1, kSetFd = 5, kCreate = 6;
constexpr unsigned kFromEmptyPath = 0x04, kToEmptyPath = 0x40, kBeneath = 0x200;

/** A filesystem that is being configured. */
class Context {
 public:
  bool Open(const char* type) {
    fd_.Reset(static_cast<int>(syscall(kSysFsopen, type, kFsopenCloexec)));
    return static_cast<bool>(fd_);
  }
  bool Set(const std::string& option) const {
    const size_t equals = option.find('=');
    if (equals == std::string::npos) return Configure(kSetFlag, option.c_str(), nullptr, 0);
    return Set(option.substr(0, equals), option.substr(equals + 1));
  }
  bool Set(const std::string& name, const std::string& value) const {
    return Configure(kSetString, name.c_str(), value.c_str(), 0);
  }
  bool Set(const char* name, int fd) const { return Configure(kSetFd, name, nullptr, fd); }
  bool Create() const { return Configure(kCreate, nullptr, nullptr, 0); }
  int Mount(uint32_t attributes) const {
    return static_cast<int>(syscall(kSysFsmount, fd_.get(), kFsmountCloexec, attributes));
  }
  /** The messages that the kernel keeps for this filesystem: `e TEXT`, `w TEXT` or `i TEXT` each.
   */
  std::string Said() const {
    std::string all;
    char text[512];
    ssize_t length;
    while (fd_ && (length = read(fd_.get(), text, sizeof text)) > 2) {
      if (!all.empty()) all += "; ";
      all.append(text + 2, static_cast<size_t>(length) - 2);
      while (!all.empty() && all.back() == '\n') all.pop_back();
    }
    return all;
  }

 private:
  bool Configure(unsigned command, const char* name, const char* value, int fd) const {
    return syscall(kSysFsconfig, fd_.get(), command, name, value, fd) == 0;
  }
  FdGuard fd_;
};

std::string PathOf(const FdGuard& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

/** The FUSE root below the directories of objects, whose own names are not shown. */
bool SetLayers(const Context& context, const FdGuard& root, const std::vector<FdGuard>& data) {
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
bool SetWritable(const Context& context, const std::vector<FdGuard>& writable) {
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
  Context context;
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
