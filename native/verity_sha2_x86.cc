// The compression functions of SHA-256 and SHA-512 for x86-64 with SHA-NI or AVX2. Merkle leaves
// are independent of each other, so several messages go through the processor side by side.

#if defined(__x86_64__)

#include <immintrin.h>

#include "verity_sha2.h"

#define TARGET_SHA __attribute__((target("sha,sse4.1")))
#define TARGET_AVX2 __attribute__((target("avx2")))
#define INLINE inline __attribute__((always_inline))

namespace composefs::sha2 {
namespace {

/**
 * SHA-NI with `Lanes` messages interleaved: sha256rnds2 waits four cycles for its predecessor,
 * which the other message fills.
 */
template <size_t Lanes>
TARGET_SHA INLINE void CompressShaNi(State* states, const uint8_t* const* messages, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  __m128i abef[Lanes], cdgh[Lanes];
#pragma GCC unroll 4
  for (size_t l = 0; l < Lanes; l++) {
    const auto* words = reinterpret_cast<const __m128i*>(states[l].words32.data());
    const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xb1);
    const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1b);
    abef[l] = _mm_alignr_epi8(badc, hgfe, 8);
    cdgh[l] = _mm_blend_epi16(hgfe, badc, 0xf0);
  }
  for (size_t at = 0; at < count * 64; at += 64) {
    __m128i schedule[Lanes][4], abef_before[Lanes], cdgh_before[Lanes];
#pragma GCC unroll 4
    for (size_t l = 0; l < Lanes; l++) {
      const auto* block = reinterpret_cast<const __m128i*>(messages[l] + at);
      abef_before[l] = abef[l];
      cdgh_before[l] = cdgh[l];
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; i++) {
        schedule[l][i] = _mm_shuffle_epi8(_mm_loadu_si128(block + i), swap);
      }
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) {
      const __m128i constants =
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(kRound256.data() + 4 * i));
#pragma GCC unroll 4
      for (size_t l = 0; l < Lanes; l++) {
        __m128i* w = schedule[l];
        const __m128i sum = _mm_add_epi32(w[i % 4], constants);
        cdgh[l] = _mm_sha256rnds2_epu32(cdgh[l], abef[l], sum);
        abef[l] = _mm_sha256rnds2_epu32(abef[l], cdgh[l], _mm_shuffle_epi32(sum, 0x0e));
        if (i < 12) {
          const __m128i next = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
          const __m128i seventh = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
          w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(next, seventh), w[(i + 3) % 4]);
        }
      }
    }
#pragma GCC unroll 4
    for (size_t l = 0; l < Lanes; l++) {
      abef[l] = _mm_add_epi32(abef[l], abef_before[l]);
      cdgh[l] = _mm_add_epi32(cdgh[l], cdgh_before[l]);
    }
  }
#pragma GCC unroll 4
  for (size_t l = 0; l < Lanes; l++) {
    auto* words = reinterpret_cast<__m128i*>(states[l].words32.data());
    const __m128i feba = _mm_shuffle_epi32(abef[l], 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(cdgh[l], 0xb1);
    _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128(words + 1, _mm_alignr_epi8(dchg, feba, 8));
  }
}

using Words32 = uint32_t __attribute__((vector_size(32)));
using Words64 = uint64_t __attribute__((vector_size(32)));

template <typename V>
TARGET_AVX2 INLINE V Load(const uint8_t* memory) {
  return reinterpret_cast<V>(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(memory)));
}

/** Word i of each of the eight messages into w[i], as numbers; 32 bytes of each. */
TARGET_AVX2 INLINE void LoadWords(const uint8_t* const* messages, size_t at, Words32* w) {
  const __m256i swap = _mm256_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203, 0x0c0d0e0f08090a0b,
                                         0x0405060700010203);
  __m256i r[8], s[8];
#pragma GCC unroll 8
  for (size_t l = 0; l < 8; l++) {
    r[l] = _mm256_shuffle_epi8(Load<__m256i>(messages[l] + at), swap);
  }
#pragma GCC unroll 4
  for (size_t l = 0; l < 8; l += 2) {
    s[l] = _mm256_unpacklo_epi32(r[l], r[l + 1]);
    s[l + 1] = _mm256_unpackhi_epi32(r[l], r[l + 1]);
  }
#pragma GCC unroll 2
  for (size_t l = 0; l < 8; l += 4) {
    r[l] = _mm256_unpacklo_epi64(s[l], s[l + 2]);
    r[l + 1] = _mm256_unpackhi_epi64(s[l], s[l + 2]);
    r[l + 2] = _mm256_unpacklo_epi64(s[l + 1], s[l + 3]);
    r[l + 3] = _mm256_unpackhi_epi64(s[l + 1], s[l + 3]);
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; i++) {
    w[i] = reinterpret_cast<Words32>(_mm256_permute2x128_si256(r[i], r[i + 4], 0x20));
    w[i + 4] = reinterpret_cast<Words32>(_mm256_permute2x128_si256(r[i], r[i + 4], 0x31));
  }
}

/** The same for four messages of 64-bit words. */
TARGET_AVX2 INLINE void LoadWords(const uint8_t* const* messages, size_t at, Words64* w) {
  const __m256i swap = _mm256_set_epi64x(0x08090a0b0c0d0e0f, 0x0001020304050607, 0x08090a0b0c0d0e0f,
                                         0x0001020304050607);
  __m256i r[4];
#pragma GCC unroll 4
  for (size_t l = 0; l < 4; l++) {
    r[l] = _mm256_shuffle_epi8(Load<__m256i>(messages[l] + at), swap);
  }
  const __m256i low01 = _mm256_unpacklo_epi64(r[0], r[1]);
  const __m256i high01 = _mm256_unpackhi_epi64(r[0], r[1]);
  const __m256i low23 = _mm256_unpacklo_epi64(r[2], r[3]);
  const __m256i high23 = _mm256_unpackhi_epi64(r[2], r[3]);
  w[0] = reinterpret_cast<Words64>(_mm256_permute2x128_si256(low01, low23, 0x20));
  w[1] = reinterpret_cast<Words64>(_mm256_permute2x128_si256(high01, high23, 0x20));
  w[2] = reinterpret_cast<Words64>(_mm256_permute2x128_si256(low01, low23, 0x31));
  w[3] = reinterpret_cast<Words64>(_mm256_permute2x128_si256(high01, high23, 0x31));
}

template <typename V>
TARGET_AVX2 INLINE V Rotate(V word, int bits) {
  constexpr int kBits = 8 * sizeof(word[0]);
  return (word >> bits) | (word << (kBits - bits));
}

/** What differs between the two hashes: rotations, round constants, number of rounds. */
struct Traits256 {
  using V = Words32;
  static constexpr size_t kLanes = 8, kRounds = 64, kBlock = 64;
  static constexpr int kBig0[] = {2, 13, 22}, kBig1[] = {6, 11, 25};
  static constexpr int kSmall0[] = {7, 18, 3}, kSmall1[] = {17, 19, 10};
  static uint32_t Constant(size_t i) { return kRound256[i]; }
  static std::array<uint32_t, 8>& Words(State& state) { return state.words32; }
};
struct Traits512 {
  using V = Words64;
  static constexpr size_t kLanes = 4, kRounds = 80, kBlock = 128;
  static constexpr int kBig0[] = {28, 34, 39}, kBig1[] = {14, 18, 41};
  static constexpr int kSmall0[] = {1, 8, 7}, kSmall1[] = {19, 61, 6};
  static uint64_t Constant(size_t i) { return kRound512[i]; }
  static std::array<uint64_t, 8>& Words(State& state) { return state.words64; }
};

template <typename V>
TARGET_AVX2 INLINE V Big(V x, const int (&r)[3]) {
  return Rotate(x, r[0]) ^ Rotate(x, r[1]) ^ Rotate(x, r[2]);
}

template <typename V>
TARGET_AVX2 INLINE V Small(V x, const int (&r)[3]) {
  return Rotate(x, r[0]) ^ Rotate(x, r[1]) ^ (x >> r[2]);
}

/** Sixteen rounds with the words w; with `Extend` each word is replaced by its successor. */
template <typename T, bool Extend, typename V>
TARGET_AVX2 INLINE void SixteenRounds(V* h, V* w, size_t first) {
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; i++) {
    if (Extend) {
      w[i] += Small(w[(i + 1) % 16], T::kSmall0) + w[(i + 9) % 16] +
              Small(w[(i + 14) % 16], T::kSmall1);
    }
    // Names of FIPS 180-4; instead of moving eight words a round, the index moves.
    const V a = h[(16 - i) % 8], b = h[(17 - i) % 8], c = h[(18 - i) % 8];
    const V e = h[(20 - i) % 8], f = h[(21 - i) % 8], g = h[(22 - i) % 8];
    const V sum =
        h[(23 - i) % 8] + Big(e, T::kBig1) + (((f ^ g) & e) ^ g) + w[i] + T::Constant(first + i);
    h[(19 - i) % 8] += sum;
    h[(23 - i) % 8] = sum + Big(a, T::kBig0) + ((a & b) | ((a | b) & c));
  }
}

template <typename T>
TARGET_AVX2 INLINE void CompressAvx2(State* states, const uint8_t* const* messages, size_t count) {
  using V = typename T::V;
  V h[8];
  for (size_t i = 0; i < 8; i++) {
    for (size_t l = 0; l < T::kLanes; l++) h[i][l] = T::Words(states[l])[i];
  }
  for (size_t at = 0; at < count * T::kBlock; at += T::kBlock) {
    V w[16], before[8];
    for (size_t i = 0; i < 16; i += T::kLanes) LoadWords(messages, at + i * sizeof(h[0][0]), w + i);
    for (size_t i = 0; i < 8; i++) before[i] = h[i];
    SixteenRounds<T, false>(h, w, 0);
    for (size_t first = 16; first < T::kRounds; first += 16) SixteenRounds<T, true>(h, w, first);
    for (size_t i = 0; i < 8; i++) h[i] += before[i];
  }
  for (size_t i = 0; i < 8; i++) {
    for (size_t l = 0; l < T::kLanes; l++) T::Words(states[l])[i] = h[i][l];
  }
}

}  // namespace

TARGET_SHA void CompressShaNi1(State* states, const uint8_t* const* messages, size_t count) {
  CompressShaNi<1>(states, messages, count);
}

TARGET_SHA void CompressShaNi2(State* states, const uint8_t* const* messages, size_t count) {
  CompressShaNi<2>(states, messages, count);
}

TARGET_AVX2 void CompressAvx2x8(State* states, const uint8_t* const* messages, size_t count) {
  CompressAvx2<Traits256>(states, messages, count);
}

TARGET_AVX2 void CompressAvx2x4Sha512(State* states, const uint8_t* const* messages, size_t count) {
  CompressAvx2<Traits512>(states, messages, count);
}

}  // namespace composefs::sha2

#endif
