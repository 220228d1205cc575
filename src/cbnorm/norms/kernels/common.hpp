// What the kernels of the normalization layers share. Float32, CPU. Optional: native.py builds these files when a
// compiler is at hand, and the plain tensor code beside them defines what every function must return.
//
// Layouts: "first" is x[n][c][l], "last" is x[n][l][c]. Tables (K, C) and (N, C) are row-major.
// No fast-math: values that are not finite must come out as such.
#pragma once
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

using i64 = int64_t;
using floats = std::vector<float>;
using doubles = std::vector<double>;

namespace {


constexpr int W = 64;     // values worked on together
constexpr int LANES = 16; // channels of a group in the last layout
constexpr int FLUSH = 64; // blocks between two transfers of float sums to double ones

// Sixteen floats; compilers split them where registers are narrower.
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
inline vec &at(float *p) { return *reinterpret_cast<vec *>(p); }
inline const vec &at(const float *p) { return *reinterpret_cast<const vec *>(p); }
inline float total(const vec &v) {
  float part[LANES / 2];
  for (int i = 0; i < LANES / 2; ++i) part[i] = v[i] + v[i + LANES / 2];
  for (int i = 0; i < LANES / 4; ++i) part[i] += part[i + LANES / 4];
  return (part[0] + part[2]) + (part[1] + part[3]);
}

// Squares are summed around the component's own mean. When the batch's mean lies within this many variances of it
// (squared), subtracting costs at most a digit; otherwise a second pass sums around the batch's mean.
constexpr double NEAR = 4.0;

// Responsibilities below exp(SMALLEST) are 0: they change no sum, and what they are multiplied to would be subnormal,
// with which some processors take many times as long.
constexpr float SMALLEST = -64.f;

// exp for x <= 0 (Cephes polynomial, 1 ulp), 0 below SMALLEST; NaN stays NaN.
inline float exp_(float given) {
  const float x = given < SMALLEST ? SMALLEST : given;
  const float n = (x * 1.44269504088896341f + 12582912.f) - 12582912.f;
  const float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  const float r = p * f * f + f + 1.f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return given < SMALLEST ? 0.f : r * scale;
}

// Logits t[k][i] become responsibilities, times mask[i].
inline void softmax_block(float *t, const float *mask, i64 K) {
  alignas(64) float top[W], sum[W];
#pragma omp simd
  for (int i = 0; i < W; ++i) { top[i] = t[i]; sum[i] = 0.f; }
  for (i64 k = 1; k < K; ++k)
#pragma omp simd
    for (int i = 0; i < W; ++i) top[i] = t[k * W + i] > top[i] ? t[k * W + i] : top[i];
  for (i64 k = 0; k < K; ++k)
#pragma omp simd
    for (int i = 0; i < W; ++i) {
      const float e = exp_(t[k * W + i] - top[i]);
      t[k * W + i] = e;
      sum[i] += e;
    }
#pragma omp simd
  for (int i = 0; i < W; ++i) sum[i] = mask[i] / sum[i];
  for (i64 k = 0; k < K; ++k)
#pragma omp simd
    for (int i = 0; i < W; ++i) t[k * W + i] *= sum[i];
}

inline void flush(floats &from, doubles &to) {
  for (size_t i = 0; i < from.size(); ++i) { to[i] += from[i]; from[i] = 0.f; }
}

} // namespace
