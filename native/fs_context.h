// A filesystem that is being made with the system calls of Linux 5.2: fsopen, fsconfig, fsmount.
// Header only. Every function leaves errno as the call did.

#pragma once

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "fd_guard.h"

namespace composefs {

// <linux/mount.h> has them, but not beside every C library's <sys/mount.h>. The numbers of the
// calls are the same on every architecture.
constexpr long kSysMoveMount = 429, kSysFsopen = 430, kSysFsconfig = 431, kSysFsmount = 432;
constexpr unsigned kFsopenCloexec = 1, kFsmountCloexec = 1;
constexpr unsigned kSetFlag = 0, kSetString = 1, kSetFd = 5, kCreate = 6;
constexpr unsigned kFromEmptyPath = 0x04, kToEmptyPath = 0x40, kBeneath = 0x200;

/** `error` is 0 or -errno; then `step` is what failed, and `said` what the kernel said, if it did.
 */
struct MountOutcome {
  int error = 0;
  std::string step;
  std::string said;
};

/** A filesystem that is being configured. */
class FsContext {
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

inline std::string PathOf(const FdGuard& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

}  // namespace composefs
