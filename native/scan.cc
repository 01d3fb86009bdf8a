#include "scan.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "fd_guard.h"

namespace composefs {
namespace {

constexpr size_t kTargetMax = 4096;
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of the VFS. */
constexpr size_t kXattrMax = 65536;
constexpr char kUserPrefix[] = "user.";

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

void Append(std::vector<uint8_t>& bytes, const void* memory, size_t length) {
  const auto* from = static_cast<const uint8_t*>(memory);
  bytes.insert(bytes.end(), from, from + length);
}

/** Calls an xattr function with a larger buffer until its answer fits. 0 or -errno. */
template <typename Read>
int ReadGrowing(std::vector<char>& buffer, Read read) {
  for (;;) {
    const ssize_t length = read(buffer.data(), buffer.size());
    if (length >= 0) {
      buffer.resize(static_cast<size_t>(length));
      return 0;
    }
    if (errno != ERANGE || buffer.size() > kXattrMax) return -errno;
    buffer.resize(buffer.size() * 4);
  }
}

/** Appends the attributes of `path`. A file system without attributes has none. */
int AppendXattrs(const char* path, uint32_t flags, std::vector<uint8_t>& out) {
  std::vector<char> names(1024);
  int error =
      ReadGrowing(names, [&](char* memory, size_t size) { return llistxattr(path, memory, size); });
  if (error == -EOPNOTSUPP) return 0;
  if (error < 0) return error;
  for (size_t at = 0; at < names.size();) {
    const char* name = names.data() + at;
    const size_t length = strnlen(name, names.size() - at);
    at += length + 1;
    if ((flags & kScanUserXattrsOnly) != 0 &&
        strncmp(name, kUserPrefix, sizeof(kUserPrefix) - 1) != 0) {
      continue;
    }
    std::vector<char> value(256);
    error = ReadGrowing(
        value, [&](char* memory, size_t size) { return lgetxattr(path, name, memory, size); });
    if (error == -ENODATA) continue;  // Removed since it was listed.
    if (error < 0) return error;
    const auto name_length = static_cast<uint16_t>(length);
    const auto value_length = static_cast<uint32_t>(value.size());
    Append(out, &name_length, sizeof(name_length));
    Append(out, &value_length, sizeof(value_length));
    Append(out, name, length);
    Append(out, value.data(), value.size());
  }
  return 0;
}

/** A short file's whole content. -ENODATA if it is shorter than lstat said. */
int ReadContent(int directory, const char* name, size_t size, std::vector<uint8_t>& content) {
  const FdGuard fd(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return -errno;
  content.resize(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t count = read(fd.get(), content.data() + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    if (count == 0) return -ENODATA;
    done += static_cast<size_t>(count);
  }
  return 0;
}

int ReadTarget(int directory, const char* name, std::vector<uint8_t>& content) {
  content.resize(kTargetMax);
  const ssize_t length =
      readlinkat(directory, name, reinterpret_cast<char*>(content.data()), content.size());
  if (length < 0) return -errno;
  content.resize(static_cast<size_t>(length));
  return 0;
}

/** Appends one record. `path` is where the entry's attributes are read. */
int AppendRecord(const struct stat& facts, const char* name, const std::vector<uint8_t>& content,
                 const std::string& path, uint32_t flags, std::vector<uint8_t>& records) {
  std::vector<uint8_t> xattrs;
  const bool is_child_directory = name[0] != 0 && S_ISDIR(facts.st_mode);
  if ((flags & kScanXattrs) != 0 && !is_child_directory) {
    const int error = AppendXattrs(path.c_str(), flags, xattrs);
    if (error < 0) return error;
  }
  const size_t name_length = strlen(name);
  const size_t length = sizeof(ScanHeader) + name_length + content.size() + xattrs.size();
  const ScanHeader header = {
      .length = static_cast<uint32_t>((length + 7) & ~size_t{7}),
      .mode = facts.st_mode,
      .uid = facts.st_uid,
      .gid = facts.st_gid,
      .size = static_cast<uint64_t>(facts.st_size),
      .mtime_seconds = facts.st_mtim.tv_sec,
      .mtime_nanoseconds = static_cast<uint32_t>(facts.st_mtim.tv_nsec),
      .rdev = static_cast<uint32_t>(facts.st_rdev),
      .ino = facts.st_ino,
      .dev = facts.st_dev,
      .nlink = static_cast<uint32_t>(facts.st_nlink),
      .name_length = static_cast<uint16_t>(name_length),
      .content_length = static_cast<uint16_t>(content.size()),
      .xattrs_length = static_cast<uint32_t>(xattrs.size()),
      .padding = 0,
  };
  Append(records, &header, sizeof(header));
  Append(records, name, name_length);
  Append(records, content.data(), content.size());
  Append(records, xattrs.data(), xattrs.size());
  records.resize((records.size() + 7) & ~size_t{7});
  return 0;
}

int AppendEntry(int directory, const std::string& path, const char* name, uint32_t flags,
                uint64_t inline_max, std::vector<uint8_t>& records) {
  struct stat facts;
  if (fstatat(directory, name, &facts, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
  std::vector<uint8_t> content;
  int error = 0;
  if (S_ISLNK(facts.st_mode)) {
    error = ReadTarget(directory, name, content);
  } else if (S_ISREG(facts.st_mode) && static_cast<uint64_t>(facts.st_size) <= inline_max) {
    error = ReadContent(directory, name, static_cast<size_t>(facts.st_size), content);
  }
  if (error < 0) return error;
  return AppendRecord(facts, name, content, path + "/" + name, flags, records);
}

}  // namespace

int ScanDirectory(const std::string& path, uint32_t flags, uint64_t inline_max,
                  std::vector<uint8_t>& records, std::string& culprit) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -errno;
  const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(fd));
  if (directory == nullptr) {
    const int error = -errno;
    close(fd);
    return error;
  }
  struct stat facts;
  if (fstat(fd, &facts) < 0) return -errno;
  int error = AppendRecord(facts, "", {}, path, flags, records);
  while (error == 0) {
    errno = 0;
    const dirent* entry = readdir(directory.get());
    if (entry == nullptr) return -errno;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    error = AppendEntry(fd, path, entry->d_name, flags, inline_max, records);
    if (error < 0) culprit = entry->d_name;
  }
  return error;
}

}  // namespace composefs
