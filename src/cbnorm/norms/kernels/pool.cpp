// ReLU and 3x3 max pooling with stride 2 in one pass, and their gradient; layout "last", C a multiple of 32.
// Not a normalization, but what stands behind one in the networks here. Equal to torch's two operations bit for bit.
#include "common.hpp"

namespace {

constexpr uint8_t NONE = 255; // no value of the window is positive

// Bits of bfloat16 or float32, a register full of them. Bits of values that are not negative are ordered as integers.
template <int BYTES> struct Bits;
template <> struct Bits<2> {
  using word = uint16_t;
  typedef uint16_t words __attribute__((vector_size(64), aligned(2)));
  typedef int16_t ints __attribute__((vector_size(64), aligned(2)));
  typedef uint8_t bytes __attribute__((vector_size(32), aligned(1)));
  static constexpr int LANES_ = 32;
  static constexpr word NAN_ = 0x7fc0, LOWEST_NEGATIVE = 0xff80; // -inf; beyond it lie NaN with a sign
};
template <> struct Bits<4> {
  using word = uint32_t;
  typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
  typedef int32_t ints __attribute__((vector_size(64), aligned(4)));
  typedef uint8_t bytes __attribute__((vector_size(16), aligned(1)));
  static constexpr int LANES_ = 16;
  static constexpr word NAN_ = 0x7fc00000, LOWEST_NEGATIVE = 0xff800000;
};

// a + b, rounded to nearest even.
inline uint16_t add(uint16_t a, uint16_t b) {
  const uint32_t wide_a = static_cast<uint32_t>(a) << 16, wide_b = static_cast<uint32_t>(b) << 16;
  float x, y;
  std::memcpy(&x, &wide_a, 4);
  std::memcpy(&y, &wide_b, 4);
  x += y;
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline uint32_t add(uint32_t a, uint32_t b) {
  float x, y;
  std::memcpy(&x, &a, 4);
  std::memcpy(&y, &b, 4);
  x += y;
  std::memcpy(&a, &x, 4);
  return a;
}

// y (N, OH, OW, C) and, unless null, which place of its window each value came from.
template <int BYTES>
void forward(const void *from, void *to, uint8_t *taken, i64 N, i64 C, i64 H, i64 W_, i64 OH, i64 OW, int threads) {
  using B = Bits<BYTES>;
  using word = typename B::word;
  using words = typename B::words;
  using ints = typename B::ints;
  const word *x = static_cast<const word *>(from);
  word *y = static_cast<word *>(to);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (i64 row = 0; row < N * OH; ++row) {
    const i64 n = row / OH, top = 2 * (row % OH), rows = std::min<i64>(3, H - top);
    for (i64 ow = 0; ow < OW; ++ow) {
      const i64 left = 2 * ow, columns = std::min<i64>(3, W_ - left), out = (row * OW + ow) * C;
      for (i64 c = 0; c < C; c += B::LANES_) {
        ints best = {}, place = best + static_cast<word>(NONE);
        words largest = {};
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) {
            const words value = *reinterpret_cast<const words *>(x + ((n * H + top + i) * W_ + left + j) * C + c);
            const ints as_int = (ints)value, better = as_int > best;
            best = better ? as_int : best;
            place = better ? ints{} + static_cast<word>(3 * i + j) : place;
            largest = value > largest ? value : largest;
          }
        best = largest > B::LOWEST_NEGATIVE ? ints{} + static_cast<word>(B::NAN_) : best;
        *reinterpret_cast<ints *>(y + out + c) = best;
        if (taken)
          *reinterpret_cast<typename B::bytes *>(taken + out + c) = __builtin_convertvector(place, typename B::bytes);
      }
    }
  }
}

// Gradient of x: every pixel adds what the windows over it send to it, in their order.
template <int BYTES>
void backward(const void *from, const uint8_t *taken, void *to, i64 N, i64 C, i64 H, i64 W_, i64 OH, i64 OW,
              int threads) {
  using word = typename Bits<BYTES>::word;
  const word *g = static_cast<const word *>(from);
  word *dx = static_cast<word *>(to);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (i64 row = 0; row < N * H; ++row) {
    const i64 n = row / H, i = row % H;
    for (i64 j = 0; j < W_; ++j) {
      word *d = dx + (row * W_ + j) * C;
      bool first = true;
      for (i64 oh = std::max<i64>(0, (i - 1) / 2); oh <= i / 2 && oh < OH; ++oh)
        for (i64 ow = std::max<i64>(0, (j - 1) / 2); ow <= j / 2 && ow < OW; ++ow) {
          const i64 window = ((n * OH + oh) * OW + ow) * C;
          const uint8_t *t = taken + window;
          const word *s = g + window;
          const uint8_t here = static_cast<uint8_t>(3 * (i - 2 * oh) + j - 2 * ow);
          if (first)
#pragma omp simd
            for (i64 c = 0; c < C; ++c) d[c] = t[c] == here ? s[c] : word{0};
          else
#pragma omp simd
            for (i64 c = 0; c < C; ++c) d[c] = add(d[c], t[c] == here ? s[c] : word{0});
          first = false;
        }
      if (first) std::memset(d, 0, static_cast<size_t>(C) * BYTES);
    }
  }
}

} // namespace

extern "C" {

void relu_pool_forward(const void *x, void *y, uint8_t *taken, i64 N, i64 C, i64 H, i64 W_, i64 OH, i64 OW, i64 bytes,
                       int threads) {
  (bytes == 2 ? forward<2> : forward<4>)(x, y, taken, N, C, H, W_, OH, OW, threads);
}

void relu_pool_backward(const void *g, const uint8_t *taken, void *dx, i64 N, i64 C, i64 H, i64 W_, i64 OH, i64 OW,
                        i64 bytes, int threads) {
  (bytes == 2 ? backward<2> : backward<4>)(g, taken, dx, N, C, H, W_, OH, OW, threads);
}

} // extern "C"
