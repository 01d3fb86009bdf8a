#include "kernel_mount.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include <algorithm>

#include "loop_device.h"

namespace composefs::kernel {
namespace {

// As in fs_context.h: not beside every C library's headers.
constexpr long kSysMountSetattr = 442;
constexpr uint64_t kAttrIdmap = 0x100000;
struct MountAttr {
  uint64_t attr_set, attr_clr, propagation, userns_fd;
};

MountOutcome Failed(const FsContext& context, std::string step) {
  const int error = -errno;
  return {error, std::move(step), context.Said()};
}

/** An erofs of this source, mounted nowhere; or why not. */
FdGuard MakeErofs(const Plan& plan, const std::string& source, MountOutcome& outcome) {
  FsContext context;
  const auto failed = [&](const char* step) {
    outcome = Failed(context, step);
    return FdGuard();
  };
  if (!context.Open("erofs")) return failed("fsopen erofs");
  if (!context.Set("source", source) || !context.Set("ro")) return failed("erofs");
  for (const std::string& option : plan.erofs_options) {
    if (!context.Set(option)) return failed("erofs options");
  }
  if (!context.Create()) return failed("erofs");
  FdGuard mount(context.Mount(1));  // MOUNT_ATTR_RDONLY.
  if (!mount) return failed("erofs");
  outcome = {};
  return mount;
}

/** From the file itself where the kernel can (Linux 6.12), else from a loop device. */
FdGuard MakeErofsLayer(const Plan& plan, MountOutcome& outcome) {
  FdGuard mount;
  if (plan.ways & kFromFile) {
    mount = MakeErofs(plan, PathOf(plan.image), outcome);
    outcome.step = mount ? "file" : outcome.step;
    if (mount || outcome.step == "fsopen erofs" || !(plan.ways & kFromLoop)) return mount;
  }
  // Whatever the reason was: a loop device asks less of the filesystem that the image is on.
  std::string path;
  const FdGuard device = OpenLoopDevice(plan.image.get(), path);
  if (!device) {
    outcome = {-errno, "loop", ""};
    return FdGuard();
  }
  mount = MakeErofs(plan, path, outcome);
  outcome.step = mount ? "loop" : outcome.step;
  return mount;
}

bool Idmap(const FdGuard& mount, const FdGuard& user_namespace) {
  MountAttr attr = {};
  attr.attr_set = kAttrIdmap;
  attr.userns_fd = static_cast<uint64_t>(user_namespace.get());
  return syscall(kSysMountSetattr, mount.get(), "", AT_EMPTY_PATH, &attr, sizeof attr) == 0;
}

FdGuard OpenDirectory(const std::string& path) {
  return FdGuard(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/** The directory as a descriptor (Linux 6.13), which the mount table shows by its name; else so. */
bool SetDirectory(const FsContext& context, const char* name, const FdGuard& directory) {
  return context.Set(name, directory.get()) || context.Set(name, PathOf(directory));
}

/** What the overlayfs is made of beside the erofs, O_PATH. */
struct Directories {
  std::vector<FdGuard> data, upper;
};

bool OpenAll(const std::vector<std::string>& paths, std::vector<FdGuard>& into) {
  for (const std::string& path : paths) {
    FdGuard directory = OpenDirectory(path);
    if (!directory) return false;
    into.push_back(std::move(directory));
  }
  return true;
}

/** Before anything is mounted that may hide one of them. */
bool OpenDirectories(const Plan& plan, Directories& directories, MountOutcome& outcome) {
  const char* step = nullptr;
  if (!OpenAll(plan.data, directories.data))
    step = "basedir";
  else if (!OpenAll(plan.upper, directories.upper))
    step = "upperdir";
  if (step != nullptr) outcome = {-errno, step, ""};
  return step == nullptr;
}

/** An overlayfs over the erofs, mounted nowhere; or why not. */
FdGuard MakeOverlay(const Plan& plan, const FdGuard& erofs, const Directories& directories,
                    MountOutcome& outcome) {
  const auto& [data, upper] = directories;
  FsContext context;
  const auto failed = [&](std::string step) {
    outcome = Failed(context, std::move(step));
    return FdGuard();
  };
  if (!context.Open("overlay")) return failed("fsopen");
  for (const std::string& option : plan.overlay_options) {
    if (!context.Set(option)) return failed(option.substr(0, option.find('=')));
  }
  if (context.Set("lowerdir+", erofs.get()) || context.Set("lowerdir+", PathOf(erofs))) {
    for (const FdGuard& directory : data) {
      if (!SetDirectory(context, "datadir+", directory)) return failed("layers");
    }
  } else {
    // Before Linux 6.7 they are one string.
    std::string layers = PathOf(erofs);
    for (const FdGuard& directory : data) layers += "::" + PathOf(directory);
    if (!context.Set("lowerdir", layers)) return failed("layers");
  }
  for (size_t i = 0; i < upper.size(); i++) {
    if (!SetDirectory(context, i == 0 ? "upperdir" : "workdir", upper[i])) {
      return failed("upperdir");
    }
  }
  if (!context.Create()) return failed("create");
  FdGuard mount(context.Mount(plan.attributes));
  if (!mount) return failed("fsmount");
  outcome = {};
  return mount;
}

/**
 * Before Linux 6.15 a layer must be mounted somewhere. It is in a mount namespace that only this
 * thread is in, and which ends with it, however it ends.
 */
struct NamespaceThread {
  const Plan& plan;
  const FdGuard& erofs;
  MountOutcome outcome;
  FdGuard overlay;

  void Run() {
    const auto failed = [this](const char* step) { outcome = {-errno, step, ""}; };
    if (unshare(CLONE_NEWNS) < 0) return failed("unshare");
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return failed("unshare");
    Directories directories;
    if (!OpenDirectories(plan, directories, outcome)) return;
    if (syscall(kSysMoveMount, erofs.get(), "", AT_FDCWD, plan.mountpoint.c_str(), kFromEmptyPath) <
        0) {
      return failed("unshare");
    }
    overlay = MakeOverlay(plan, erofs, directories, outcome);
  }
  static void* Start(void* self) {
    static_cast<NamespaceThread*>(self)->Run();
    return nullptr;
  }
};

FdGuard MakeOverlayInNamespace(const Plan& plan, const FdGuard& erofs, MountOutcome& outcome) {
  NamespaceThread work{plan, erofs, {}, FdGuard()};
  pthread_t thread;
  if (const int error = pthread_create(&thread, nullptr, NamespaceThread::Start, &work)) {
    outcome = {-error, "unshare", ""};
    return FdGuard();
  }
  pthread_join(thread, nullptr);
  outcome = work.outcome;
  return std::move(work.overlay);
}

}  // namespace

MountOutcome Mount(const Plan& plan) {
  // Looked up first, in the namespace that this thread stays in.
  const FdGuard target(OpenDirectory(plan.mountpoint));
  if (!target) return {-errno, "mountpoint", ""};
  MountOutcome outcome;
  const FdGuard erofs = MakeErofsLayer(plan, outcome);
  if (!erofs) return outcome;
  const std::string how = outcome.step;
  if (plan.idmap && !Idmap(erofs, plan.idmap)) return {-errno, "idmap", ""};
  outcome = {-EINVAL, "layers", ""};
  FdGuard overlay;
  if (plan.ways & kDetachedLayers) {
    Directories directories;
    if (!OpenDirectories(plan, directories, outcome)) return outcome;
    overlay = MakeOverlay(plan, erofs, directories, outcome);
  }
  // What was said first is not better founded than what is said of a mounted layer.
  if (!overlay && (plan.ways & kNamespaceLayers)) {
    overlay = MakeOverlayInNamespace(plan, erofs, outcome);
  }
  if (!overlay) return outcome;
  if (syscall(kSysMoveMount, overlay.get(), "", target.get(), "", kFromEmptyPath | kToEmptyPath) <
      0) {
    return {-errno, "move_mount", ""};
  }
  return {0, how, ""};
}

}  // namespace composefs::kernel
