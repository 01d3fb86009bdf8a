// The portable SHA-2, the one of the OpenSSL inside node, and the choice among all. The numbers
// beside the names are 4 KiB messages on an EPYC with SHA-NI and AVX2, one core, GCC 12
// (idle machine).

#include "verity_sha2.h"

#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace composefs::sha2 {

const std::array<uint32_t, 64> kRound256 = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
const std::array<uint64_t, 80> kRound512 = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};
const Algorithm kSha256 = {64,
                           32,
                           {.words32 = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                        0x9b05688c, 0x1f83d9ab, 0x5be0cd19}}};
const Algorithm kSha512 = {
    128,
    64,
    {.words64 = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                 0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179}}};

namespace {

template <typename Word>
struct Functions;
template <>
struct Functions<uint32_t> {
  static constexpr std::array<int, 12> kBits = {2, 13, 22, 6, 11, 25, 7, 18, 3, 17, 19, 10};
  static constexpr const auto& kRound = kRound256;
  static std::array<uint32_t, 8>& Words(State& state) { return state.words32; }
};
template <>
struct Functions<uint64_t> {
  static constexpr std::array<int, 12> kBits = {28, 34, 39, 14, 18, 41, 1, 8, 7, 19, 61, 6};
  static constexpr const auto& kRound = kRound512;
  static std::array<uint64_t, 8>& Words(State& state) { return state.words64; }
};

template <typename Word>
Word FromBigEndian(const uint8_t* bytes) {
  Word word = 0;
  for (size_t i = 0; i < sizeof(Word); i++) word = (word << 8) | bytes[i];
  return word;
}

template <typename Word>
void CompressPortable(State* states, const uint8_t* const* messages, size_t count) {
  using F = Functions<Word>;
  constexpr auto& r = F::kBits;
  constexpr size_t kRounds = F::kRound.size();
  std::array<Word, 8>& state = F::Words(*states);
  for (size_t block = 0; block < count; block++) {
    Word w[kRounds];
    for (size_t i = 0; i < 16; i++) {
      w[i] = FromBigEndian<Word>(messages[0] + (block * 16 + i) * sizeof(Word));
    }
    for (size_t i = 16; i < kRounds; i++) {
      const Word x = w[i - 15], y = w[i - 2];
      w[i] = w[i - 16] + w[i - 7] + (std::rotr(x, r[6]) ^ std::rotr(x, r[7]) ^ (x >> r[8])) +
             (std::rotr(y, r[9]) ^ std::rotr(y, r[10]) ^ (y >> r[11]));
    }
    auto [a, b, c, d, e, f, g, h] = state;  // Names of FIPS 180-4.
    for (size_t i = 0; i < kRounds; i++) {
      const Word t1 = h + (std::rotr(e, r[3]) ^ std::rotr(e, r[4]) ^ std::rotr(e, r[5])) +
                      ((e & f) ^ (~e & g)) + F::kRound[i] + w[i];
      const Word t2 = (std::rotr(a, r[0]) ^ std::rotr(a, r[1]) ^ std::rotr(a, r[2])) +
                      ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1;
      d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<Word, 8> sums = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; i++) state[i] += sums[i];
  }
}

/**
 * SHA256_Update of the OpenSSL that node brings, looked up at run time: a node without it still
 * loads the addon. Its context begins with the eight words, and all zeros after them means that no
 * partial block waits (SHA256_CTX 112 bytes, SHA512_CTX 216). One call of SHA256() costs 10 % more,
 * and EVP_DigestInit_ex or EVP_MD_CTX_copy_ex for each block 2 %.
 */
using Update = int (*)(void* context, const void* bytes, size_t length);

template <typename Word>
Update openssl_update = nullptr;

template <typename Word>
void CompressOpenssl(State* states, const uint8_t* const* messages, size_t count) {
  struct alignas(16) {
    std::array<Word, 8> words;
    uint8_t rest[256];
  } context = {Functions<Word>::Words(*states), {}};
  openssl_update<Word>(&context, messages[0], count * 16 * sizeof(Word));
  Functions<Word>::Words(*states) = context.words;
}

/** Whether OpenSSL is there and its contexts look as this file believes. */
template <typename Word>
bool HasOpenssl(const char* name, const Algorithm& algorithm) {
  openssl_update<Word> = reinterpret_cast<Update>(dlsym(RTLD_DEFAULT, name));
  if (openssl_update<Word> == nullptr) return false;
  const std::array<uint8_t, 256> bytes = {1, 2, 3};
  const uint8_t* message = bytes.data();
  State expected = algorithm.initial, got = algorithm.initial;
  CompressPortable<Word>(&expected, &message, 256 / algorithm.block_size);
  CompressOpenssl<Word>(&got, &message, 256 / algorithm.block_size);
  return Functions<Word>::Words(expected) == Functions<Word>::Words(got);
}

struct Choice {
  std::array<Implementation, 5> items;
  size_t count = 0;
  void Add(const Implementation& item) { items[count++] = item; }
};

#if defined(__x86_64__)
bool HasShaNi() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & (1u << 29)) != 0 &&
         __builtin_cpu_supports("sse4.1");
}
#endif

Choice ChooseSha256() {
  Choice choice;
  const Implementation portable = {"portable", 1, 2, CompressPortable<uint32_t>,
                                   CompressPortable<uint32_t>};
  const Implementation openssl = {"openssl", 1, 2, CompressOpenssl<uint32_t>,
                                  CompressOpenssl<uint32_t>};
  const bool has_openssl = HasOpenssl<uint32_t>("SHA256_Update", kSha256);
#if defined(__x86_64__)
  if (HasShaNi()) {
    choice.Add({"sha-ni-x2", 2, 2, CompressShaNi2, CompressShaNi1});  // 2700 MB/s
    choice.Add({"sha-ni", 1, 2, CompressShaNi1, CompressShaNi1});     // 1430 MB/s
  }
  if (__builtin_cpu_supports("avx2")) {  // 1370 MB/s
    choice.Add({"avx2-x8", 8, 3, CompressAvx2x8, (has_openssl ? openssl : portable).single});
  }
#endif
  if (has_openssl) choice.Add(openssl);  // 1400 MB/s, also by SHA-NI
  choice.Add(portable);
  return choice;
}

Choice ChooseSha512() {
  Choice choice;
  const Implementation portable = {"portable", 1, 2, CompressPortable<uint64_t>,
                                   CompressPortable<uint64_t>};
  const Implementation openssl = {"openssl", 1, 2, CompressOpenssl<uint64_t>,
                                  CompressOpenssl<uint64_t>};
  const bool has_openssl = HasOpenssl<uint64_t>("SHA512_Update", kSha512);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {  // 1170 MB/s
    choice.Add({"avx2-x4", 4, 3, CompressAvx2x4Sha512, (has_openssl ? openssl : portable).single});
  }
#endif
  if (has_openssl) choice.Add(openssl);  // 665 MB/s
  choice.Add(portable);
  return choice;
}

template <typename Word>
void WriteDigest(State& state, uint8_t* digest) {
  for (const Word word : Functions<Word>::Words(state)) {
    for (size_t i = sizeof(Word); i-- > 0;) *digest++ = static_cast<uint8_t>(word >> (8 * i));
  }
}

}  // namespace

std::span<const Implementation> ImplementationsOf(const Algorithm& algorithm) {
  static const Choice sha256 = ChooseSha256();
  static const Choice sha512 = ChooseSha512();
  const Choice& choice = &algorithm == &kSha256 ? sha256 : sha512;
  return {choice.items.data(), choice.count};
}

void Hasher::Hash(const uint8_t* messages, size_t count, size_t length, uint8_t* digests) const {
  const size_t block_size = algorithm->block_size;
  std::array<uint8_t, 128> padding = {0x80};
  const uint64_t bits = uint64_t{8} * (before + length);
  for (size_t i = 0; i < 8; i++) {
    padding[block_size - 1 - i] = static_cast<uint8_t>(bits >> (8 * i));
  }
  std::array<const uint8_t*, kLanesMax> paddings;
  paddings.fill(padding.data());
  for (size_t done = 0; done < count;) {
    const size_t left = count - done;
    const bool is_wide = left >= std::min(implementation->lanes, implementation->fill_from);
    const size_t lanes = is_wide ? implementation->lanes : 1;
    const Compress compress = is_wide ? implementation->compress : implementation->single;
    std::array<State, kLanesMax> states;
    std::array<const uint8_t*, kLanesMax> lane_messages;
    for (size_t i = 0; i < lanes; i++) {
      states[i] = start;
      lane_messages[i] = messages + (done + std::min(i, left - 1)) * length;
    }
    compress(states.data(), lane_messages.data(), length / block_size);
    compress(states.data(), paddings.data(), 1);
    for (size_t i = 0; i < std::min(lanes, left); i++, done++) {
      uint8_t* digest = digests + done * algorithm->digest_size;
      if (algorithm == &kSha256) {
        WriteDigest<uint32_t>(states[i], digest);
      } else {
        WriteDigest<uint64_t>(states[i], digest);
      }
    }
  }
}

}  // namespace composefs::sha2
