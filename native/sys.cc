#include "sys.h"

#include <linux/fsverity.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <syslog.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "object_guard.h"

#if __has_include(<linux/openat2.h>)
#include <linux/openat2.h>
#else
struct open_how {
  uint64_t flags, mode, resolve;
};
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_NO_SYMLINKS 0x04
#define RESOLVE_BENEATH 0x08
#endif
#ifndef SYS_openat2
#define SYS_openat2 437  // The same number on every architecture.
#endif

#ifndef FUSE_DEV_IOC_BACKING_OPEN  // Headers before Linux 6.9.
struct fuse_backing_map {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
#define FUSE_DEV_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)
#endif
static_assert(FUSE_DEV_IOC_BACKING_OPEN == 0x4010E501 && FUSE_DEV_IOC_BACKING_CLOSE == 0x4004E502);

namespace composefs::sys {

namespace {

constexpr const char* kDevicePath = "/dev/fuse";
// The kernel copies one page of mount options and cuts the rest off without a word.
constexpr size_t kMountDataMax = 4095;
constexpr size_t kPathMax = 4096;
// Whose connection it may be: the kernel refuses a read into less than its largest WRITE.
constexpr size_t kRequestBuffer = (1 << 20) + 8192;
// openat2 says EAGAIN when a rename elsewhere made its check of the path inconclusive.
constexpr int kOpenAttempts = 8;
// O_NONBLOCK and O_NOCTTY: if a FIFO or terminal takes the file's place after it was looked at, the
// open neither hangs nor changes the controlling terminal.
constexpr int kObjectFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC;

int Check(int result) {
  return result < 0 ? -errno : result;
}

bool Is(Fd fd, Kind kind) {
  return KindOf(fd.number) == kind;
}

bool IsDevice(Fd fd) {
  return Is(fd, Kind::kDevice) || Is(fd, Kind::kSessionDevice);
}

/** 0 for a regular file, else the -errno that openObject promises for this type. */
int CheckType(mode_t mode) {
  if (S_ISREG(mode)) return 0;
  if (S_ISDIR(mode)) return -EISDIR;
  return S_ISLNK(mode) ? -ELOOP : -EINVAL;
}

/** The type of `name`, never following it as a symlink: 0 for a regular file, else -errno. */
int CheckTypeAt(int dir_fd, const char* name) {
  struct stat st;
  if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  return CheckType(st.st_mode);
}

/**
 * A path of an object as a C string. Absolute paths and `..` are refused before any system call
 * sees them, since fstatat would follow them out of the basedir; `.` and empty components are
 * refused so that both ways to open agree.
 */
class ObjectPath {
 public:
  /** 0 or -errno. */
  int Set(std::string_view path) {
    if (path.empty()) return -ENOENT;
    if (path.size() >= kPathMax) return -ENAMETOOLONG;
    // Copied before it is checked: another thread may write to a shared buffer meanwhile.
    memcpy(text_, path.data(), path.size());
    text_[path.size()] = '\0';
    if (strlen(text_) != path.size()) return -EINVAL;
    if (text_[0] == '/') return -EXDEV;
    for (const char* part = text_; part != nullptr;) {
      const char* slash = strchr(part, '/');
      const std::string_view name =
          slash == nullptr ? std::string_view(part) : std::string_view(part, slash - part);
      if (name == "..") return -EXDEV;
      if (name.empty() || name == ".") return -EINVAL;
      part = slash == nullptr ? nullptr : slash + 1;
    }
    return 0;
  }
  char* text() { return text_; }

 private:
  char text_[kPathMax];
};

int64_t Nanoseconds(const timespec& time) {
  // Unsigned, so that a time past the year 2262 wraps instead of being undefined.
  return static_cast<int64_t>(static_cast<uint64_t>(time.tv_sec) * 1'000'000'000u +
                              static_cast<uint64_t>(time.tv_nsec));
}

/** Hands out an opened object after a second look at what it is. `fd` with errno set on failure. */
int FinishObject(FdGuard fd, ObjectFacts& facts) {
  if (!fd) return -errno;
  const int error = FactsOf(fd.get(), facts);
  if (error < 0) return error;
  if (!S_ISREG(static_cast<mode_t>(facts[1]))) return -EINVAL;
  return HandOut(std::move(fd), Kind::kObject);
}

/** Component by component, for kernels without openat2 (before 5.6). Cuts `path` up. */
int WalkToObject(int basedir_fd, char* path, ObjectFacts& facts) {
  FdGuard dir;
  int dir_fd = basedir_fd;
  char* name = path;
  for (char* slash; (slash = strchr(name, '/')) != nullptr; name = slash + 1) {
    *slash = '\0';
    FdGuard next(openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
    if (!next) {
      const int error = -errno;
      // A symlink is only told as ENOTDIR here, but as ELOOP by openat2.
      return error == -ENOTDIR && CheckTypeAt(dir_fd, name) == -ELOOP ? -ELOOP : error;
    }
    dir = std::move(next);
    dir_fd = dir.get();
  }
  const int error = CheckTypeAt(dir_fd, name);
  if (error != 0) return error;
  return FinishObject(FdGuard(openat(dir_fd, name, kObjectFlags)), facts);
}

}  // namespace

int CreateWake() {
  return HandOut(FdGuard(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), Kind::kWake);
}

int Wake(Fd wake) {
  if (!Is(wake, Kind::kWake)) return -EBADF;
  const uint64_t one = 1;
  return write(wake.number, &one, sizeof one) < 0 ? -errno : 0;
}

int OpenDevice() {
  return HandOut(FdGuard(open(kDevicePath, O_RDWR | O_CLOEXEC)), Kind::kDevice);
}

int CloneDevice(Fd device) {
  if (!IsDevice(device)) return -EBADF;
  FdGuard clone(open(kDevicePath, O_RDWR | O_CLOEXEC));
  if (!clone) return -errno;
  uint32_t source = static_cast<uint32_t>(device.number);
  if (ioctl(clone.get(), FUSE_DEV_IOC_CLONE, &source) < 0) return -errno;
  return HandOut(std::move(clone), Kind::kDevice);
}

int Duplicate(Fd fd) {
  const Kind kind = KindOf(fd.number);
  // A copy of a guarded object would read without checks.
  if (kind == Kind::kNone || kind == Kind::kGuardedObject) return -EBADF;
  return HandOut(FdGuard(fcntl(fd.number, F_DUPFD_CLOEXEC, 0)),
                 kind == Kind::kSessionDevice ? Kind::kDevice : kind);
}

int AdoptDevice(Fd fd) {
  constexpr unsigned kMiscMajor = 10, kFuseMinor = 229;
  struct stat st;
  const bool is_device = fd.number >= 0 && fstat(fd.number, &st) == 0 && S_ISCHR(st.st_mode) &&
                         st.st_rdev == makedev(kMiscMajor, kFuseMinor);
  if (!is_device) return -EBADF;
  return HandOut(FdGuard(fcntl(fd.number, F_DUPFD_CLOEXEC, 0)), Kind::kDevice);
}

int IsUnmounted(Fd device) {
  if (!IsDevice(device)) return -EBADF;
  pollfd state = {device.number, POLLIN, 0};
  // A connected device must not be read: a request would be lost.
  if (poll(&state, 1, 0) < 0 || (state.revents & POLLERR) == 0) return 0;
  const auto request = std::make_unique_for_overwrite<uint8_t[]>(kRequestBuffer);
  return read(device.number, request.get(), kRequestBuffer) < 0 && errno == ENODEV ? 1 : 0;
}

int CloseDescriptor(Fd fd) {
  const Kind kind = KindOf(fd.number);
  if (kind == Kind::kSessionDevice || !ChangeKind(fd.number, kind, Kind::kNone)) return -EBADF;
  if (kind == Kind::kGuardedObject) guard::Remove(fd.number);
  close(fd.number);
  return 0;
}

int Mount(const std::string& source, const std::string& target, const std::string& type,
          uint32_t flags, const std::string& data, Fd device) {
  const bool has_device = device.number != kNoFd;
  if (has_device && !IsDevice(device)) return -EBADF;
  std::string options = has_device ? "fd=" + std::to_string(device.number) : "";
  if (has_device && !data.empty()) options += ',';
  options += data;
  if (options.size() > kMountDataMax) return -E2BIG;
  return Check(mount(source.c_str(), target.c_str(), type.c_str(), flags, options.c_str()));
}

int Unmount(const std::string& target, uint32_t flags) {
  return Check(umount2(target.c_str(), static_cast<int>(flags)));
}

int SocketPair(std::array<int, 2>& pair) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) return -errno;
  FdGuard ours(fds[0]);
  FdGuard theirs(fds[1]);
  if (ours.get() >= kTableSize || theirs.get() >= kTableSize) return -EMFILE;
  pair = {HandOut(std::move(ours), Kind::kSocket), HandOut(std::move(theirs), Kind::kSocket)};
  return 0;
}

int ReceiveDescriptor(Fd socket) {
  if (!Is(socket, Kind::kSocket)) return -EBADF;
  char byte;
  iovec bytes = {&byte, sizeof byte};
  // Room for more than the one expected: what does not fit is closed by the kernel, the rest by us.
  alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t length;
  do {
    length = recvmsg(socket.number, &message, MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length < 0) return -errno;
  FdGuard received;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= item->cmsg_len; at += sizeof(int)) {
      int fd;
      memcpy(&fd, reinterpret_cast<const char*>(item) + at, sizeof fd);
      FdGuard guard(fd);
      if (!received) received = std::move(guard);
    }
  }
  if (!received) return length == 0 ? -ENODATA : -EBADMSG;
  return HandOut(std::move(received), Kind::kDevice);
}

int UseHugePages(std::span<uint8_t> memory) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(memory.data());
  const uintptr_t first = (start + page - 1) & ~(page - 1);
  const uintptr_t end = (start + memory.size()) & ~(page - 1);
  if (first >= end) return 0;
  return madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE) == 0 ? 0 : -errno;
}

int OpenBasedir(const std::string& path) {
  return HandOut(FdGuard(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), Kind::kBasedir);
}

int OpenObject(Fd basedir, std::string_view path, ObjectFacts& facts) {
  if (!Is(basedir, Kind::kBasedir)) return -EBADF;
  ObjectPath name;
  int error = name.Set(path);
  // Looked at first, because merely opening a device can have effects.
  if (error == 0) error = CheckTypeAt(basedir.number, name.text());
  if (error != 0) return error;
  open_how how = {};
  how.flags = kObjectFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  FdGuard fd;
  for (int attempt = 0; !fd && attempt < kOpenAttempts; attempt++) {
    fd.Reset(static_cast<int>(syscall(SYS_openat2, basedir.number, name.text(), &how, sizeof how)));
    if (!fd && errno != EAGAIN) break;
  }
  // ENOSYS: Linux before 5.6. EPERM: what container filters of that time say to unknown calls.
  if (!fd && (errno == ENOSYS || errno == EPERM)) {
    return WalkToObject(basedir.number, name.text(), facts);
  }
  return FinishObject(std::move(fd), facts);
}

int OpenObjectByWalk(Fd basedir, std::string_view path, ObjectFacts& facts) {
  if (!Is(basedir, Kind::kBasedir)) return -EBADF;
  ObjectPath name;
  const int error = name.Set(path);
  return error != 0 ? error : WalkToObject(basedir.number, name.text(), facts);
}

int FactsOf(int fd, ObjectFacts& facts) {
  struct stat st;
  if (fstat(fd, &st) < 0) return -errno;
  facts = {static_cast<int64_t>(st.st_size), static_cast<int64_t>(st.st_mode),
           static_cast<int64_t>(st.st_dev),  static_cast<int64_t>(st.st_ino),
           Nanoseconds(st.st_mtim),          Nanoseconds(st.st_ctim)};
  return 0;
}

int64_t Seek(Fd object, int64_t offset, uint32_t whence) {
  // What became a hole after an object was verified, or was cut off its end, would be taken for
  // zeros by who copies only data: one that nobody else guards is all data.
  if (KindOf(object.number) == Kind::kGuardedObject &&
      (whence == SEEK_DATA || whence == SEEK_HOLE)) {
    const int64_t size = guard::SizeOf(object.number);
    if (size < 0) return size;
    if (offset < 0 || offset >= size) return -ENXIO;
    return whence == SEEK_DATA ? offset : size;
  }
  if (!IsObject(object)) return -EBADF;
  const off_t result = lseek(object.number, offset, static_cast<int>(whence));
  if (result < 0) return -errno;
  return result > (int64_t{1} << 53) ? -EOVERFLOW : result;
}

int MeasureVerity(Fd file, std::span<uint8_t> digest) {
  // Another program's file will do, but no device, to which the command may mean something else.
  struct stat st;
  if (!IsObject(file) && (fstat(file.number, &st) < 0 || !S_ISREG(st.st_mode))) return -EBADF;
  constexpr size_t kDigestMax = 64;
  alignas(fsverity_digest) uint8_t space[sizeof(fsverity_digest) + kDigestMax] = {};
  auto* measured = reinterpret_cast<fsverity_digest*>(space);
  measured->digest_size = static_cast<uint16_t>(std::min(digest.size(), kDigestMax));
  if (ioctl(file.number, FS_IOC_MEASURE_VERITY, measured) < 0) return -errno;
  memcpy(digest.data(), space + sizeof(fsverity_digest), measured->digest_size);
  return measured->digest_algorithm * 65536 + measured->digest_size;
}

int OpenBacking(Fd device, Fd object) {
  if (!IsDevice(device) || !IsObject(object)) return -EBADF;
  fuse_backing_map map = {};
  map.fd = object.number;
  return Check(ioctl(device.number, FUSE_DEV_IOC_BACKING_OPEN, &map));
}

int CloseBacking(Fd device, uint32_t backing_id) {
  if (!IsDevice(device)) return -EBADF;
  return Check(ioctl(device.number, FUSE_DEV_IOC_BACKING_CLOSE, &backing_id));
}

int StoreInCache(Fd device, uint64_t nodeid, std::span<const uint8_t> content) {
  if (!IsDevice(device)) return -EBADF;
  struct {
    fuse_out_header header;
    fuse_notify_store_out store;
  } message = {};
  message.header.len = static_cast<uint32_t>(sizeof message + content.size());
  message.header.error = FUSE_NOTIFY_STORE;  // A notification has its code there, and no request.
  message.store.nodeid = nodeid;
  message.store.size = static_cast<uint32_t>(content.size());
  const iovec parts[] = {{&message, sizeof message},
                         {const_cast<uint8_t*>(content.data()), content.size()}};
  return writev(device.number, parts, 2) < 0 ? -errno : 0;
}

void Syslog(int priority, const std::string& line) {
  // The C library keeps the identity's address; the library is never unloaded (-z nodelete).
  static const bool opened = (openlog("composefs-fuse", LOG_PID, LOG_DAEMON), true);
  static_cast<void>(opened);
  syslog(LOG_DAEMON | priority, "%s", line.c_str());
}

}  // namespace composefs::sys
