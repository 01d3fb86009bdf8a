// What is kept of a file's fs-verity tree so that every block can be checked when it is read later:
// the digests of the lowest hash blocks, 1/16384 of the content with SHA-256 and 1/4096 with
// SHA-512. The leaves below one of them are kept in a cache with a bound for the process; where
// they were dropped, the whole group of blocks is read and hashed again.

#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "verity.h"

namespace composefs::verity {

/** Block size of every digest in a composefs image. */
constexpr size_t kBlockSize = 4096;

/** SHA-256 (1) or SHA-512 (2) over blocks of kBlockSize without salt. */
const Parameters& ComposefsParameters(uint32_t algorithm);

/** An fs-verity digest with its algorithm, whose unused bytes are zero. */
struct Digest {
  uint8_t algorithm = 0;
  std::array<uint8_t, sha2::kDigestMax> bytes = {};

  bool operator==(const Digest&) const = default;
};

/** Shared with whoever waits for a long computation. */
struct Progress {
  std::atomic_ref<int64_t> done_bytes;
  /** Not zero: stop. */
  std::atomic_ref<int64_t> cancelled;
};

/** A file whose content has been hashed. Does not change; used by many threads. */
class ContentTree {
 public:
  /** Hashes the `size` bytes of `fd`. 0, -errno, -ECANCELED, or kChanged if the file ends earlier.
   */
  int64_t Build(uint32_t algorithm, int fd, int64_t size, const Progress* progress);

  /**
   * Reads up to out.size() bytes from `offset` and checks every block they lie in. Bytes read,
   * fewer only at the end; -errno; or kDiffers if a block is not what was hashed, with `out`
   * undefined.
   */
  int64_t Read(int fd, int64_t offset, std::span<uint8_t> out) const;

  const Digest& digest() const { return digest_; }
  int64_t size() const { return size_; }
  size_t memory_bytes() const { return sizeof(*this) + groups_.capacity(); }

 private:
  class Part;
  const Parameters& parameters() const { return ComposefsParameters(digest_.algorithm); }
  /** Bytes of content below one hash block. */
  int64_t group_size() const;
  void Finish();
  int64_t ReadPart(int fd, const Part& part, std::span<uint8_t> out) const;

  Digest digest_;
  int64_t size_ = 0;
  /** Tells the trees apart in the cache of leaves. */
  uint64_t number_ = 0;
  /** A digest for each group of blocks; the block's own digest where the file has only one. */
  std::vector<uint8_t> groups_;
};

}  // namespace composefs::verity
