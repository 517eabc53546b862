// What depends on the compiler and the processor: inlining, instruction sets, unaligned big-endian loads.
//
// Every hot kernel is one always-inline template with two thin wrappers: a portable one and one compiled for AVX2 and
// BMI. They compute the same bits (no fused multiply-add, no reordering), and a test holds them to that.
#pragma once

#include <cstdint>
#include <cstring>

#define NNR_INLINE inline __attribute__((always_inline))
#define NNR_NOINLINE __attribute__((noinline))
#define NNR_LAMBDA_INLINE __attribute__((always_inline))
#define NNR_LIKELY(x) __builtin_expect(!!(x), 1)
#define NNR_UNLIKELY(x) __builtin_expect(!!(x), 0)

#if defined(__x86_64__) && defined(__GNUC__)
#define NNR_X86 1
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#define NNR_TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2,lzcnt")))
#else
#define NNR_X86 0
#define NNR_TARGET_AVX2
#endif

namespace nnr {

inline bool has_avx2() {
#if NNR_X86
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#else
  return false;
#endif
}

NNR_INLINE uint64_t load_big_endian_64(const uint8_t* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

NNR_INLINE void store_big_endian_32(uint8_t* data, uint32_t word) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap32(word);
#endif
  std::memcpy(data, &word, sizeof word);
}

}  // namespace nnr
