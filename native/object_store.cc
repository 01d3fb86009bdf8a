// A batch of files at a time: digest the sources, copy those whose object is missing into nameless
// files (O_TMPFILE), digest the copies, one syncfs(2) for all of them, then enable fs-verity and
// link each into place. One fsync(2) per object instead is what makes filling a store slow.

#include "object_store.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>

#include "fd_guard.h"

namespace composefs {
namespace {

constexpr mode_t kObjectMode = 0644;
constexpr mode_t kDirectoryMode = 0755;
constexpr size_t kCopyBuffer = size_t{1} << 18;
/** Merkle tree parameters of composefs. */
constexpr uint32_t kVerityBlockSize = 4096;

/** A copy that has no name in the store yet. */
struct Copy {
  FdGuard fd;
  /** Its temporary name where the file system has no O_TMPFILE. */
  std::string temporary;
};

std::string ObjectPath(const verity::Measured& measured) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string path;
  for (size_t i = 0; i < 32; i++) {
    if (i == 1) path += '/';
    path += kDigits[measured.digest[i] >> 4];
    path += kDigits[measured.digest[i] & 15];
  }
  return path;
}

/** `/proc/self/fd/N`: a descriptor as a path, to open it anew or to link it. */
std::string PathOf(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

/** 0, or -errno with nothing left behind. */
int CreateNameless(int store, Copy& copy) {
  copy.fd = FdGuard(openat(store, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (copy.fd) return 0;
  // Not every file system has it (FUSE, NFS, overlayfs on old kernels); some say EISDIR or EINVAL.
  if (errno == ENOSPC || errno == EMFILE || errno == ENFILE || errno == EDQUOT || errno == EROFS ||
      errno == EACCES || errno == ENOMEM) {
    return -errno;
  }
  static std::atomic<unsigned> counter{0};
  for (int attempt = 0; attempt < 100; attempt++) {
    copy.temporary = ".tmp-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
    copy.fd =
        FdGuard(openat(store, copy.temporary.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (copy.fd || errno != EEXIST) break;
  }
  if (copy.fd) return 0;
  copy.temporary.clear();
  return -errno;
}

int WriteAll(int fd, const uint8_t* bytes, size_t length) {
  while (length > 0) {
    const ssize_t count = write(fd, bytes, length);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    bytes += count;
    length -= static_cast<size_t>(count);
  }
  return 0;
}

/** The content of `from`, however long it is by now; the copy's digest tells whether it changed. */
int CopyContent(int from, int to) {
  if (ioctl(to, FICLONE, from) == 0) return 0;
  for (;;) {
    const ssize_t count = copy_file_range(from, nullptr, to, nullptr, size_t{1} << 30, 0);
    if (count > 0) continue;
    // 0 is the end, or a file system that cannot: the loop below reads on from where this ended.
    if (count == 0 || errno != EINTR) {
      if (count < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO)) return -errno;
      break;
    }
  }
  thread_local const std::unique_ptr<uint8_t[]> buffer(new uint8_t[kCopyBuffer]);
  for (;;) {
    const ssize_t count = read(from, buffer.get(), kCopyBuffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    if (count == 0) return 0;
    const int error = WriteAll(to, buffer.get(), static_cast<size_t>(count));
    if (error < 0) return error;
  }
}

int MakeCopy(int store, const char* source, Copy& copy) {
  const FdGuard from(open(source, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!from) return -errno;
  int error = CreateNameless(store, copy);
  if (error == 0) error = CopyContent(from.get(), copy.fd.get());
  if (error == 0 && fchmod(copy.fd.get(), kObjectMode) < 0) error = -errno;
  return error;
}

void Discard(int store, Copy& copy) {
  if (!copy.temporary.empty()) unlinkat(store, copy.temporary.c_str(), 0);
  copy.temporary.clear();
  copy.fd.Reset();
}

/** fs-verity wants nobody to have the file open for writing. Every failure means: not here. */
void EnableKernelVerity(Copy& copy) {
  FdGuard reader(open(PathOf(copy.fd.get()).c_str(), O_RDONLY | O_CLOEXEC));
  if (!reader) return;
  copy.fd = std::move(reader);
  fsverity_enable_arg argument = {};
  argument.version = 1;
  argument.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  argument.block_size = kVerityBlockSize;
  // ETXTBSY: a process that was forked meanwhile still has our descriptor for writing.
  for (int attempt = 0; attempt < 3; attempt++) {
    if (ioctl(copy.fd.get(), FS_IOC_ENABLE_VERITY, &argument) == 0 || errno != ETXTBSY) return;
    usleep(1000);
  }
}

/** Gives the copy its name: 0, 1 if another one, as good, has it by now, or -errno. */
int Link(int store, Copy& copy, const std::string& path) {
  if (mkdirat(store, path.substr(0, 2).c_str(), kDirectoryMode) < 0 && errno != EEXIST) {
    return -errno;
  }
  const int status =
      copy.temporary.empty()
          ? linkat(AT_FDCWD, PathOf(copy.fd.get()).c_str(), store, path.c_str(), AT_SYMLINK_FOLLOW)
          : linkat(store, copy.temporary.c_str(), store, path.c_str(), 0);
  if (status == 0) return 0;
  return errno == EEXIST ? 1 : -errno;
}

void AppendPath(std::vector<uint8_t>& paths, const std::string& path) {
  paths.insert(paths.end(), path.begin(), path.end());
  paths.push_back(0);
}

bool SameDigest(const verity::Measured& a, const verity::Measured& b) {
  return a.status == b.status && memcmp(a.digest.data(), b.digest.data(), 32) == 0;
}

}  // namespace

std::vector<Stored> StoreObjects(const verity::Parameters& parameters, int store,
                                 std::span<const uint8_t> paths, size_t limit) {
  const std::vector<verity::Measured> sources = verity::MeasurePaths(parameters, paths, limit);
  std::vector<Stored> results(sources.size());
  std::vector<Copy> copies(sources.size());
  // Whatever is read again afterwards, copies and objects that are there, in one go.
  std::vector<uint8_t> again;
  std::vector<size_t> indexes;
  const char* source = reinterpret_cast<const char*>(paths.data());
  for (size_t i = 0; i < sources.size(); i++, source += strlen(source) + 1) {
    results[i] = {sources[i], Stored::Outcome::kFailed};
    if (sources[i].status < 0) continue;
    const std::string object = ObjectPath(sources[i]);
    struct stat facts;
    if (fstatat(store, object.c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0) {
      results[i].outcome = Stored::Outcome::kPresentButWrong;
      if (!S_ISREG(facts.st_mode) || facts.st_size != sources[i].status) continue;
      AppendPath(again, PathOf(store) + "/" + object);
    } else {
      const int error = MakeCopy(store, source, copies[i]);
      if (error < 0) {
        Discard(store, copies[i]);
        results[i].measured.status = error;
        continue;
      }
      AppendPath(again, PathOf(copies[i].fd.get()));
    }
    indexes.push_back(i);
  }

  const std::vector<verity::Measured> found = verity::MeasurePaths(parameters, again, limit);
  // The store itself may be open as O_PATH, on which syncfs(2) does not work; any copy will do.
  const Copy* added = nullptr;
  for (size_t k = 0; k < indexes.size(); k++) {
    const size_t i = indexes[k];
    const bool is_same = SameDigest(found[k], sources[i]);
    if (found[k].status < 0 && found[k].status != verity::kChanged) {
      // It cannot be told whether it is the same (no memory, no descriptors).
      Discard(store, copies[i]);
      results[i] = {found[k], Stored::Outcome::kFailed};
    } else if (!copies[i].fd) {
      if (is_same) results[i].outcome = Stored::Outcome::kPresent;
    } else if (is_same) {
      added = &copies[i];
    } else {
      Discard(store, copies[i]);
      results[i].measured.status = verity::kChanged;
    }
  }

  const int sync_error = added != nullptr && syncfs(added->fd.get()) < 0 ? -errno : 0;
  for (size_t i = 0; i < copies.size(); i++) {
    if (!copies[i].fd) continue;
    int error = sync_error;
    if (error == 0) {
      EnableKernelVerity(copies[i]);
      error = Link(store, copies[i], ObjectPath(sources[i]));
    }
    Discard(store, copies[i]);
    if (error < 0) {
      results[i].measured.status = error;
    } else {
      results[i].outcome = error == 0 ? Stored::Outcome::kAdded : Stored::Outcome::kPresent;
    }
  }
  return results;
}

}  // namespace composefs
