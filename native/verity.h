// fs-verity in user space: leaves of a range of a file, digests of whole small files, and the ioctl
// that enables it in the kernel. No JavaScript here; every function works in any thread.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "fd_guard.h"
#include "verity_sha2.h"

namespace composefs::verity {

constexpr size_t kSaltMax = 32;
constexpr size_t kBlockMin = 1024;
constexpr size_t kBlockMax = 65536;
/** Bytes of a range or of the files of a batch that are in memory at a time: they stay in L2. */
constexpr size_t kArenaSize = size_t{1} << 18;

/** What a digest depends on besides the content. */
struct Parameters {
  uint8_t algorithm_number = 0;  // 1 SHA-256, 2 SHA-512
  size_t block_size = 0;
  size_t salt_size = 0;
  std::array<uint8_t, kSaltMax> salt = {};
  sha2::Hasher blocks;       // Begins after the salt.
  sha2::Hasher descriptors;  // Has no salt.

  size_t digest_size() const { return blocks.algorithm->digest_size; }
};

/** `algorithm_number` 1 or 2; at most kSaltMax bytes of salt. */
Parameters MakeParameters(uint8_t algorithm_number, size_t block_size,
                          std::span<const uint8_t> salt, const sha2::Implementation& variant);

/** Results beside sizes and negative errno numbers; VERITY_STATUS of src/native.ts. */
constexpr int64_t kChanged = -4097;   // The file was not the same before and after reading it.
constexpr int64_t kTooLarge = -4098;  // Larger than the limit, and not read.
constexpr int64_t kDiffers = -4099;   // Not the bytes that were hashed before.

/** One file of a batch: its size, or why there is no digest. */
struct Measured {
  int64_t status = 0;
  std::array<uint8_t, sha2::kDigestMax> digest = {};
};

/** Measures regular files of at most `limit` bytes. The paths end with a NUL each. */
std::vector<Measured> MeasurePaths(const Parameters& parameters, std::span<const uint8_t> paths,
                                   size_t limit);

/**
 * The digests of the blocks of `length` bytes at `offset`, the last one padded with zeros. 0,
 * -errno, or kChanged if the file ends earlier.
 */
int64_t HashRange(const Parameters& parameters, int fd, off_t offset, size_t length,
                  std::vector<uint8_t>& leaves);

/** The same of bytes in memory. Returns the number of blocks. */
size_t HashBlocks(const Parameters& parameters, std::span<const uint8_t> bytes, uint8_t* leaves);

/** The digest of a file: of its descriptor with the root hash. */
void HashDescriptor(const Parameters& parameters, int64_t size, std::span<const uint8_t> root_hash,
                    uint8_t* digest);

/** pread(2) until `length` bytes are there or the file ends. Bytes read, or -errno. */
ssize_t ReadAll(int fd, uint8_t* memory, size_t length, off_t offset);

/** FS_IOC_ENABLE_VERITY without salt on a descriptor of kind kObject. 0 or -errno. */
int EnableVerity(Fd object, uint32_t algorithm, uint32_t block_size);

}  // namespace composefs::verity
