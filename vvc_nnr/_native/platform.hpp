// What depends on the compiler and the processor: inlining, bits, byte order, instruction sets. The other headers are ISO
// C++17, but for what stands between `#if NNR_X86` and its end, and a test holds them to that.
//
// Every hot kernel is one always-inline template with two thin wrappers: a portable one and one compiled for AVX2 and
// BMI. They compute the same bits (no fused multiply-add, no reordering), and a test holds them to that.
//
// NNR_GNU: GCC and Clang, with their vectors, attributes and builtins. NNR_X86: x86-64 as well, where functions can be
// compiled for a processor that is found when they run; not on Windows, where GCC does not align AVX vectors on the stack
// and Clang lacks the look at the processor. NNR_ISO leaves all of that out by wish, so that any compiler can test it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__GNUC__) && !defined(NNR_ISO)
#define NNR_GNU 1
#else
#define NNR_GNU 0
#endif

#if NNR_GNU
#define NNR_INLINE inline __attribute__((always_inline))
#define NNR_NOINLINE __attribute__((noinline))
#define NNR_LAMBDA_INLINE __attribute__((always_inline))
#define NNR_LIKELY(x) __builtin_expect(!!(x), 1)
#define NNR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#if defined(_MSC_VER)
#include <intrin.h>
#define NNR_INLINE __forceinline
#define NNR_NOINLINE __declspec(noinline)
#else
#define NNR_INLINE inline
#define NNR_NOINLINE
#endif
#define NNR_LAMBDA_INLINE
#define NNR_LIKELY(x) (x)
#define NNR_UNLIKELY(x) (x)
#endif

#if NNR_GNU && defined(__x86_64__) && !defined(_WIN32)
#define NNR_X86 1
#include <cpuid.h>
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

#if NNR_X86
// Instruction sets by their bits in leaf 7 of CPUID, EBX below ECX.
constexpr uint64_t kAvx2 = 1ull << 5, kBmi2 = 1ull << 8;
constexpr uint64_t kAvx512F = 1ull << 16, kAvx512Dq = 1ull << 17, kAvx512Cd = 1ull << 28, kAvx512Bw = 1ull << 30;
constexpr uint64_t kAvx512Vl = 1ull << 31, kAvx512Vbmi = 1ull << 33, kAvx512Vbmi2 = 1ull << 38;
constexpr uint64_t kAvx512Vnni = 1ull << 43;

constexpr uint64_t kOfAvx512 = kAvx512F | kAvx512Dq | kAvx512Cd | kAvx512Bw | kAvx512Vl | kAvx512Vbmi |
                               kAvx512Vbmi2 | kAvx512Vnni;

// What may be used at all, by the environment, so that a processor can be tested as an older one.
inline uint64_t allowed_instruction_sets() {
  const char* limit = std::getenv("VVC_NNR_INSTRUCTIONS");
  if (!limit || !*limit || !std::strcmp(limit, "gathers")) return ~uint64_t{0};
  if (!std::strcmp(limit, "avx2")) return ~kOfAvx512;
  if (!std::strcmp(limit, "portable")) return 0;
  throw std::runtime_error(std::string("VVC_NNR_INSTRUCTIONS is \"") + limit +
                           "\"; must be gathers, avx2, portable or empty");
}

// Those of this processor whose registers the system keeps. Not all compilers can be asked: Zig's builtin finds none.
inline uint64_t find_instruction_sets() {
  constexpr unsigned kOsXsave = 1u << 27, kAvxState = 0x06, kAvx512State = 0xe6;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsXsave)) return 0;
  unsigned kept, high;
  asm("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
  if ((kept & kAvxState) != kAvxState || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  const uint64_t found = uint64_t{c} << 32 | b;
  return (kept & kAvx512State) == kAvx512State ? found : found & ~kOfAvx512;
}

inline bool has_instructions(uint64_t sets) {
  static const uint64_t found = find_instruction_sets() & allowed_instruction_sets();
  return (found & sets) == sets;
}

// Whether gathers and scatters take longer than loads and stores of single words: on AMD's processors, measured on Zen 4.
// The environment may say that they do not.
inline bool find_slow_gathers() {
  const char* limit = std::getenv("VVC_NNR_INSTRUCTIONS");
  unsigned a, b, c, d;
  if ((limit && !std::strcmp(limit, "gathers")) || !__get_cpuid(0, &a, &b, &c, &d)) return false;
  char vendor[12];
  std::memcpy(vendor, &b, 4), std::memcpy(vendor + 4, &d, 4), std::memcpy(vendor + 8, &c, 4);
  return !std::memcmp(vendor, "AuthenticAMD", sizeof vendor);
}

inline bool has_slow_gathers() {
  static const bool found = find_slow_gathers();
  return found;
}
#endif

// Finds the instruction sets, once. Throws std::runtime_error if the environment names none that is known.
inline void choose_instructions() {
#if NNR_X86
  has_instructions(0);
#endif
}

inline bool has_avx2() {
#if NNR_X86
  return has_instructions(kAvx2 | kBmi2);
#else
  return false;
#endif
}

// Zeros above the highest bit that is set. Requires one.
NNR_INLINE int leading_zeros(uint64_t word) {
#if NNR_GNU
  return __builtin_clzll(word);
#elif defined(_MSC_VER) && defined(_WIN64)
  unsigned long highest;
  _BitScanReverse64(&highest, word);
  return 63 - static_cast<int>(highest);
#else
  int n = 0;
  for (int half = 32; half > 0; half /= 2) {
    if (word >> (64 - half) == 0) word <<= half, n += half;
  }
  return n;
#endif
}

NNR_INLINE int leading_zeros(uint32_t word) {
#if NNR_GNU
  return __builtin_clz(word);
#else
  return leading_zeros(uint64_t{word}) - 32;
#endif
}

// Fetches a cache line that is read soon, if the address is one.
NNR_INLINE void prefetch([[maybe_unused]] const void* address) {
#if NNR_GNU
  __builtin_prefetch(address);
#endif
}

// A pointer in a register, where a compiler would find the place anew at each use.
template <class T>
NNR_INLINE const T* in_register(const T* pointer) {
#if NNR_GNU
  asm("" : "+r"(pointer));
#endif
  return pointer;
}

#if NNR_GNU
// An entry for each lane of a vector, from a table of twice as many entries as there are lanes.
template <class Lane, class Lanes>
NNR_INLINE Lanes look_up_by_lane(const Lane* table, Lanes at) {
  constexpr int n_lanes = sizeof(Lanes) / sizeof(Lane);
#if !defined(__clang__)
  Lanes low, high;
  std::memcpy(&low, table, sizeof low);
  std::memcpy(&high, table + n_lanes, sizeof high);
  return __builtin_shuffle(low, high, at);
#else
  Lanes found;
  for (int lane = 0; lane < n_lanes; ++lane) found[lane] = table[at[lane] & (2 * n_lanes - 1)];
  return found;
#endif
}
#endif

NNR_INLINE uint64_t load_big_endian_64(const uint8_t* data) {
#if NNR_GNU && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
  return __builtin_bswap64(word);
#else
  uint64_t word = 0;
  for (int i = 0; i < 8; ++i) word = word << 8 | data[i];
  return word;
#endif
}

NNR_INLINE uint64_t load_little_endian_64(const uint8_t* data) {
  uint64_t word = 0;
#if NNR_GNU && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  std::memcpy(&word, data, sizeof word);
#else
  for (int i = 0; i < 8; ++i) word |= uint64_t{data[i]} << 8 * i;
#endif
  return word;
}

NNR_INLINE void store_little_endian_64(uint8_t* data, uint64_t word) {
#if NNR_GNU && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  std::memcpy(data, &word, sizeof word);
#else
  for (int i = 0; i < 8; ++i) data[i] = static_cast<uint8_t>(word >> 8 * i);
#endif
}

NNR_INLINE void store_big_endian_32(uint8_t* data, uint32_t word) {
#if NNR_GNU && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap32(word);
  std::memcpy(data, &word, sizeof word);
#else
  for (int i = 0; i < 4; ++i) data[i] = static_cast<uint8_t>(word >> (24 - 8 * i));
#endif
}

}  // namespace nnr
