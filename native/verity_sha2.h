// SHA-256 and SHA-512 for fs-verity: many equally long messages at once, each a whole number of
// compression blocks, so that the padding is one constant block. The implementation is chosen once
// per process by what the processor can do; all of them are exported by name for the tests.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace composefs::sha2 {

constexpr size_t kLanesMax = 8;
constexpr size_t kDigestMax = 64;

/** The chaining value of one message: eight words of 32 (SHA-256) or 64 bits (SHA-512). */
union State {
  std::array<uint32_t, 8> words32;
  std::array<uint64_t, 8> words64;
};

/** Takes `count` compression blocks from each of the `lanes` messages into their states. */
using Compress = void (*)(State* states, const uint8_t* const* messages, size_t count);

/** One way to compute a hash. */
struct Implementation {
  const char* name;
  size_t lanes;
  size_t fill_from;   // So many messages left over are worth a call with repeated ones beside them.
  Compress compress;  // For exactly `lanes` messages.
  Compress single;    // For one message.
};

struct Algorithm {
  size_t block_size;   // Of the compression function: 64 or 128.
  size_t digest_size;  // 32 or 64.
  State initial;
};

extern const Algorithm kSha256;
extern const Algorithm kSha512;

/** The implementations that work on this processor, the fastest first. */
std::span<const Implementation> ImplementationsOf(const Algorithm& algorithm);

/** Hashes messages whose first `before` bytes (whole compression blocks) are in `start` already. */
struct Hasher {
  const Algorithm* algorithm;
  const Implementation* implementation;
  State start;
  size_t before;

  /**
   * Writes the digests of `count` messages, one after the other in `messages`, each of `length`
   * bytes (a multiple of the compression block).
   */
  void Hash(const uint8_t* messages, size_t count, size_t length, uint8_t* digests) const;
};

extern const std::array<uint32_t, 64> kRound256;
extern const std::array<uint64_t, 80> kRound512;

// verity_sha2_x86.cc. Only for a processor that has the instructions.
#if defined(__x86_64__)
void CompressShaNi1(State* states, const uint8_t* const* messages, size_t count);
void CompressShaNi2(State* states, const uint8_t* const* messages, size_t count);
void CompressAvx2x8(State* states, const uint8_t* const* messages, size_t count);
void CompressAvx2x4Sha512(State* states, const uint8_t* const* messages, size_t count);
#endif

}  // namespace composefs::sha2
