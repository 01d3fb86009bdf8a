// Ownership of descriptors. FdGuard closes one at the end of its scope. The table says which
// numbers JavaScript was given, and as what, so that no wrong number can close, read or mount a
// descriptor that belongs to libuv or to a session.

#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace composefs {

/** Owns one descriptor. */
class FdGuard {
 public:
  FdGuard() = default;
  explicit FdGuard(int fd) : fd_(fd) {}
  FdGuard(FdGuard&& other) noexcept : fd_(other.Release()) {}
  FdGuard& operator=(FdGuard&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  ~FdGuard() { Reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    // Never retried: on Linux the number is free even when close(2) says EINTR.
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/** A descriptor argument from JavaScript: any number that no descriptor can have is kNoFd or
 * kBadFd. */
struct Fd {
  int number;
};
constexpr int kNoFd = -1;   // Negative.
constexpr int kBadFd = -2;  // Too large, or no integer.

/** What a descriptor was handed out as. */
enum class Kind : uint8_t {
  kNone,
  kDevice,
  kSessionDevice,  // A device that a Session has taken over.
  kWake,
  kSocket,
  kBasedir,
  kObject,
  kGuardedObject,  // An object whose blocks are checked when they are read: object_guard.h.
};

constexpr int kTableSize = 1 << 20;

// One byte per number, for the whole process: workers pass each other descriptors as plain numbers.
// The library is linked with -z nodelete, so the table outlives the worker that loaded it first.
// All zero, hence untouched pages take no memory.
inline uint8_t kind_table[kTableSize];

inline Kind KindOf(int fd) {
  if (fd < 0 || fd >= kTableSize) return Kind::kNone;
  return static_cast<Kind>(std::atomic_ref(kind_table[fd]).load());
}

inline bool IsObject(Fd fd) {
  const Kind kind = KindOf(fd.number);
  return kind == Kind::kObject || kind == Kind::kGuardedObject;
}

/** Changes a number's kind if it still has the expected one: of two threads only one succeeds. */
inline bool ChangeKind(int fd, Kind from, Kind to) {
  if (KindOf(fd) == Kind::kNone) return false;
  auto expected = static_cast<uint8_t>(from);
  return std::atomic_ref(kind_table[fd])
      .compare_exchange_strong(expected, static_cast<uint8_t>(to));
}

/** Enters a descriptor into the table and gives up the guard. Call with errno as the open left it.
 */
inline int HandOut(FdGuard fd, Kind kind) {
  if (!fd) return -errno;
  if (fd.get() >= kTableSize) return -EMFILE;
  std::atomic_ref(kind_table[fd.get()]).store(static_cast<uint8_t>(kind));
  return fd.Release();
}

}  // namespace composefs
