// Measuring many files goes level by level over all of them, so that the interleaved hash functions
// get independent blocks even where a file has one block only: on 10,000 files of 1..64 KiB that
// saves 6 % of the CPU time against file by file (36.2 and 38.5 us a file, system calls included).

#include "verity.h"

#include <linux/fs.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace composefs::verity {
namespace {

constexpr size_t kDescriptorSize = 256;
static_assert(sizeof(fsverity_enable_arg) == 128);

/** Reused by every piece of work of a thread: a fresh one costs 64 page faults each time. */
std::span<uint8_t> Arena() {
  thread_local const std::unique_ptr<uint8_t[]> arena(new uint8_t[kArenaSize]);
  return {arena.get(), kArenaSize};
}

size_t RoundUp(size_t size, size_t block_size) {
  return (size + block_size - 1) & -block_size;
}

bool IsSame(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool IsSame(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && IsSame(a.st_mtim, b.st_mtim) && IsSame(a.st_ctim, b.st_ctim);
}

/** Hashes blocks that are put together in the arena, and appends their digests to one list. */
class Blocks {
 public:
  explicit Blocks(const Parameters& parameters) : parameters_(parameters) {}

  /** Room for at least a block, to be filled by the caller. */
  std::span<uint8_t> Room() {
    if (arena_.size() - used_ < parameters_.block_size) Flush();
    return arena_.subspan(used_, (arena_.size() - used_) & -parameters_.block_size);
  }
  /** Takes `length` bytes that were written into the room; they end a block or the message. */
  void Take(size_t length) {
    const size_t end = used_ + RoundUp(length, parameters_.block_size);
    memset(arena_.data() + used_ + length, 0, end - used_ - length);
    used_ = end;
  }
  void Append(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const std::span<uint8_t> room = Room();
      const size_t part = std::min(bytes.size(), room.size());
      memcpy(room.data(), bytes.data(), part);
      Take(part);
      bytes = bytes.subspan(part);
    }
  }
  void Flush() {
    const size_t count = used_ / parameters_.block_size, before = digests_.size();
    digests_.resize(before + count * parameters_.digest_size());
    parameters_.blocks.Hash(arena_.data(), count, parameters_.block_size, digests_.data() + before);
    used_ = 0;
  }
  /** The number of digests after everything taken is hashed. */
  size_t count() const {
    return digests_.size() / parameters_.digest_size() + used_ / parameters_.block_size;
  }
  std::vector<uint8_t> Finish() {
    Flush();
    return std::exchange(digests_, {});
  }

 private:
  const Parameters& parameters_;
  std::span<uint8_t> arena_ = Arena();
  size_t used_ = 0;
  std::vector<uint8_t> digests_;
};

/** Which digests of the current level belong to a file. */
struct Range {
  size_t first = 0;
  size_t count = 0;
};

/** Takes `size` bytes at `start`. `size`, -errno, or kChanged if the file ends earlier. */
int64_t ReadBlocks(int fd, off_t start, int64_t size, Blocks& blocks) {
  for (int64_t done = 0; done < size;) {
    const std::span<uint8_t> room = blocks.Room();
    const size_t want = std::min(room.size(), static_cast<size_t>(size - done));
    const ssize_t got = ReadAll(fd, room.data(), want, start + done);
    if (got < 0) return got;
    if (static_cast<size_t>(got) < want) return kChanged;
    blocks.Take(want);
    done += got;
  }
  return size;
}

/** The file's size after its blocks are taken, or what Measured::status says. */
int64_t ReadFile(const char* path, size_t limit, Blocks& blocks) {
  // O_NONBLOCK: a FIFO without writer must not stop the thread.
  const FdGuard fd(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat before, after;
  if (!fd || fstat(fd.get(), &before) < 0) return -errno;
  if (S_ISDIR(before.st_mode)) return -EISDIR;
  if (!S_ISREG(before.st_mode)) return -EINVAL;
  if (static_cast<uint64_t>(before.st_size) > limit) return kTooLarge;
  const int64_t status = ReadBlocks(fd.get(), 0, before.st_size, blocks);
  if (status < 0) return status;
  if (fstat(fd.get(), &after) < 0) return -errno;
  return IsSame(before, after) ? status : kChanged;
}

/** Hashes the leaves of all files up to their roots, which become the files' digests for now. */
void FindRoots(const Parameters& parameters, std::vector<uint8_t> level, std::vector<Range>& ranges,
               std::vector<Measured>& files) {
  const size_t digest_size = parameters.digest_size();
  for (bool is_done = false; !is_done;) {
    is_done = true;
    Blocks next(parameters);
    for (size_t i = 0; i < files.size(); i++) {
      Range& range = ranges[i];
      if (range.count == 0) continue;  // Empty or failed, or its root is found.
      const std::span<const uint8_t> digests(level.data() + range.first * digest_size,
                                             range.count * digest_size);
      if (range.count == 1) {
        std::copy(digests.begin(), digests.end(), files[i].digest.begin());
        range.count = 0;
        continue;
      }
      const size_t first = next.count();
      next.Append(digests);
      range = {first, next.count() - first};
      is_done = false;
    }
    level = next.Finish();
  }
}

/** struct fsverity_descriptor of <linux/fsverity.h>, little-endian. */
void WriteDescriptor(const Parameters& parameters, int64_t size, std::span<const uint8_t> root_hash,
                     uint8_t* descriptor) {
  descriptor[0] = 1;
  descriptor[1] = parameters.algorithm_number;
  descriptor[2] = static_cast<uint8_t>(std::countr_zero(parameters.block_size));
  descriptor[3] = static_cast<uint8_t>(parameters.salt_size);
  for (size_t i = 0; i < 8; i++) {
    descriptor[8 + i] = static_cast<uint8_t>(static_cast<uint64_t>(size) >> (8 * i));
  }
  memcpy(descriptor + 16, root_hash.data(), parameters.digest_size());
  memcpy(descriptor + 80, parameters.salt.data(), parameters.salt_size);
}

}  // namespace

Parameters MakeParameters(uint8_t algorithm_number, size_t block_size,
                          std::span<const uint8_t> salt, const sha2::Implementation& variant) {
  const sha2::Algorithm& algorithm = algorithm_number == 2 ? sha2::kSha512 : sha2::kSha256;
  const sha2::Hasher plain = {&algorithm, &variant, algorithm.initial, 0};
  Parameters parameters = {algorithm_number, block_size, salt.size(), {}, plain, plain};
  if (salt.empty()) return parameters;
  std::copy(salt.begin(), salt.end(), parameters.salt.begin());
  // The salt is padded to one block of the hash, which is hashed once and for all here.
  std::array<uint8_t, 128> block = {};
  std::copy(salt.begin(), salt.end(), block.begin());
  const uint8_t* message = block.data();
  variant.single(&parameters.blocks.start, &message, 1);
  parameters.blocks.before = algorithm.block_size;
  return parameters;
}

std::vector<Measured> MeasurePaths(const Parameters& parameters, std::span<const uint8_t> paths,
                                   size_t limit) {
  const size_t count = static_cast<size_t>(std::count(paths.begin(), paths.end(), 0));
  std::vector<Measured> files(count);
  std::vector<Range> ranges(count);
  Blocks leaves(parameters);
  const char* path = reinterpret_cast<const char*>(paths.data());
  for (size_t i = 0; i < count; i++, path += strlen(path) + 1) {
    const size_t first = leaves.count();
    files[i].status = ReadFile(path, limit, leaves);
    if (files[i].status > 0) ranges[i] = {first, leaves.count() - first};
  }
  FindRoots(parameters, leaves.Finish(), ranges, files);
  std::vector<uint8_t> descriptors(count * kDescriptorSize), digests(count * sha2::kDigestMax);
  for (size_t i = 0; i < count; i++) {
    WriteDescriptor(parameters, files[i].status, files[i].digest,
                    descriptors.data() + i * kDescriptorSize);
  }
  parameters.descriptors.Hash(descriptors.data(), count, kDescriptorSize, digests.data());
  for (size_t i = 0; i < count; i++) {
    const size_t digest_size = parameters.digest_size();
    memcpy(files[i].digest.data(), digests.data() + i * digest_size, digest_size);
  }
  return files;
}

int64_t HashRange(const Parameters& parameters, int fd, off_t offset, size_t length,
                  std::vector<uint8_t>& leaves) {
  Blocks blocks(parameters);
  const int64_t status = ReadBlocks(fd, offset, static_cast<int64_t>(length), blocks);
  if (status < 0) return status;
  leaves = blocks.Finish();
  return 0;
}

size_t HashBlocks(const Parameters& parameters, std::span<const uint8_t> bytes, uint8_t* leaves) {
  const size_t block_size = parameters.block_size, count = bytes.size() / block_size;
  parameters.blocks.Hash(bytes.data(), count, block_size, leaves);
  const std::span<const uint8_t> tail = bytes.subspan(count * block_size);
  if (tail.empty()) return count;
  const std::span<uint8_t> padded = Arena().first(block_size);
  memcpy(padded.data(), tail.data(), tail.size());
  memset(padded.data() + tail.size(), 0, block_size - tail.size());
  parameters.blocks.Hash(padded.data(), 1, block_size, leaves + count * parameters.digest_size());
  return count + 1;
}

ssize_t ReadAll(int fd, uint8_t* memory, size_t length, off_t offset) {
  size_t done = 0;
  while (done < length) {
    const ssize_t count =
        pread(fd, memory + done, length - done, offset + static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return static_cast<ssize_t>(done);
}

void HashDescriptor(const Parameters& parameters, int64_t size, std::span<const uint8_t> root_hash,
                    uint8_t* digest) {
  std::array<uint8_t, kDescriptorSize> descriptor = {};
  WriteDescriptor(parameters, size, root_hash, descriptor.data());
  parameters.descriptors.Hash(descriptor.data(), 1, kDescriptorSize, digest);
}

int EnableVerity(Fd object, uint32_t algorithm, uint32_t block_size) {
  if (!IsObject(object)) return -EBADF;
  fsverity_enable_arg argument = {};
  argument.version = 1;
  argument.hash_algorithm = algorithm;
  argument.block_size = block_size;
  return ioctl(object.number, FS_IOC_ENABLE_VERITY, &argument) < 0 ? -errno : 0;
}

}  // namespace composefs::verity
