// Float32 kernels of the normalization layers for CPUs. Optional: native.py builds this file when a compiler
// is at hand, and the plain tensor code beside it defines what every function here must return.
//
// Layouts: "first" is x[n][c][l], "last" is x[n][l][c]. Tables (K, C) and (N, C) are row-major.
// No fast-math: values that are not finite must come out as such.
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

// exp for x <= 0 (Cephes polynomial, 1 ulp); NaN stays NaN.
inline float exp_(float x) {
  x = x < -87.f ? -87.f : x;
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
  return r * scale;
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

// ---- one posterior a scalar: values of one channel (first) or 16 channels (last), 64 at a time

struct Group {
  i64 N, C, L, c0, width, positions;
  bool last;

  Group(i64 N, i64 C, i64 L, bool last, i64 index) : N(N), C(C), L(L), positions(N * L), last(last) {
    c0 = last ? index * LANES : index;
    width = last ? (C - c0 < LANES ? C - c0 : LANES) : 1;
  }
  static i64 count(i64 C, bool last) { return last ? (C + LANES - 1) / LANES : C; }
  i64 blocks() const { return last ? (positions + W / LANES - 1) / (W / LANES) : (positions + W - 1) / W; }
  i64 channel(int lane) const { const i64 c = c0 + (last ? lane % LANES : 0); return c < C ? c : C - 1; }

  template <class F> void runs(i64 block, F f) const { // f(offset in tensor, lane, length)
    if (last) {
      for (int q = 0; q < W / LANES; ++q) {
        const i64 p = block * (W / LANES) + q;
        if (p < positions) f(p * C + c0, q * LANES, width);
      }
      return;
    }
    i64 p = block * W;
    const i64 end = p + W < positions ? p + W : positions;
    int lane = 0;
    while (p < end) {
      const i64 n = p / L, l = p % L;
      const i64 len = L - l < end - p ? L - l : end - p;
      f((n * C + c0) * L + l, lane, len);
      p += len;
      lane += static_cast<int>(len);
    }
  }
  const float *load(const float *x, i64 block, float *buffer) const {
    if (!last && L % W == 0) {
      const i64 p = block * W;
      return x + ((p / L) * C + c0) * L + p % L;
    }
    if (whole(block)) {
      const float *from = x + block * (W / LANES) * C + c0;
      for (int q = 0; q < W / LANES; ++q) std::memcpy(buffer + q * LANES, from + q * C, LANES * sizeof(float));
      return buffer;
    }
    std::memset(buffer, 0, W * sizeof(float));
    runs(block, [&](i64 at, int lane, i64 len) { std::memcpy(buffer + lane, x + at, len * sizeof(float)); });
    return buffer;
  }
  // Four positions of sixteen channels (last): the common case, without bookkeeping.
  bool whole(i64 block) const { return last && width == LANES && (block + 1) * (W / LANES) <= positions; }
  void store(float *y, i64 block, const float *buffer) const {
    if (whole(block)) {
      float *to = y + block * (W / LANES) * C + c0;
      for (int q = 0; q < W / LANES; ++q) std::memcpy(to + q * C, buffer + q * LANES, LANES * sizeof(float));
      return;
    }
    runs(block, [&](i64 at, int lane, i64 len) { std::memcpy(y + at, buffer + lane, len * sizeof(float)); });
  }
  void mask(i64 block, float *m) const {
    if (whole(block) || (!last && (block + 1) * W <= positions)) {
      for (int i = 0; i < W; ++i) m[i] = 1.f;
      return;
    }
    std::memset(m, 0, W * sizeof(float));
    runs(block, [&](i64, int lane, i64 len) { for (i64 i = 0; i < len; ++i) m[lane + i] = 1.f; });
  }
  // A table (K, C) spread over the lanes.
  void spread(const float *table, i64 K, floats &out) const {
    for (i64 k = 0; k < K; ++k)
      for (int i = 0; i < W; ++i) out[k * W + i] = table[k * C + channel(i)];
  }
  // Sums over the lanes of each channel, into a table (K, C).
  void gather(const doubles &lanes, i64 K, double *table) const {
    for (i64 k = 0; k < K; ++k) {
      for (i64 j = 0; j < width; ++j) table[k * C + c0 + j] = 0.0;
      for (int i = 0; i < W; ++i)
        if (!last || i % LANES < width) table[k * C + c0 + (last ? i % LANES : 0)] += lanes[k * W + i];
    }
  }
};

inline void flush(floats &from, doubles &to) {
  for (size_t i = 0; i < from.size(); ++i) { to[i] += from[i]; from[i] = 0.f; }
}

struct Sums { // float lanes, flushed to double ones
  floats f;
  doubles d;
  explicit Sums(size_t n) : f(n, 0.f), d(n, 0.0) {}
  void reset() { std::fill(f.begin(), f.end(), 0.f); std::fill(d.begin(), d.end(), 0.0); }
  void done() { flush(f, d); }
};

// Responsibilities of a group's blocks: kept from the first pass on when they fit the cache, else computed anew.
struct Posterior {
  static constexpr size_t LIMIT = size_t(1) << 20; // floats
  i64 K;
  bool keep = false;
  floats a, h, mu, kept;
  explicit Posterior(i64 K) : K(K), a(K * W), h(K * W), mu(K * W), kept(K * W) {}
  void begin(i64 blocks) {
    keep = static_cast<size_t>(blocks * K * W) <= LIMIT;
    if (keep && kept.size() < static_cast<size_t>(blocks * K * W)) kept.resize(blocks * K * W);
  }
  const float *first(i64 block, const float *x, const float *mask) {
    float *t = &kept[keep ? block * K * W : 0];
    for (i64 k = 0; k < K; ++k)
      for (int i = 0; i < W; i += LANES) {
        const vec d = at(x + i) - at(&mu[k * W + i]);
        at(t + k * W + i) = at(&a[k * W + i]) - at(&h[k * W + i]) * d * d;
      }
    softmax_block(t, mask, K);
    return t;
  }
  const float *again(i64 block, const float *x, const float *mask) {
    return keep ? &kept[block * K * W] : first(block, x, mask);
  }
};

// ---- one posterior a position: 64 positions of a sample (first) or of the batch (last: N = 1, L = N L)

struct Tile {
  i64 n, l0;
  int width;
};

struct Tiles {
  i64 N, C, L, perSample;
  bool last;
  Tiles(i64 n, i64 C, i64 l, bool last)
      : N(last ? 1 : n), C(C), L(last ? n * l : l), perSample((L + W - 1) / W), last(last) {}
  i64 count() const { return N * perSample; }
  Tile at(i64 index) const {
    const i64 l0 = (index % perSample) * W;
    return {index / perSample, l0, static_cast<int>(L - l0 < W ? L - l0 : W)};
  }
  // 64 positions of one channel (first), zeros behind the end.
  const float *row(const float *x, const Tile &tile, i64 c, float *buffer) const {
    const float *from = x + (tile.n * C + c) * L + tile.l0;
    if (tile.width == W) return from;
    std::memset(buffer, 0, W * sizeof(float));
    std::memcpy(buffer, from, tile.width * sizeof(float));
    return buffer;
  }
  i64 point(const Tile &tile, int i) const { return (tile.l0 + i) * C; } // one position of all channels (last)
  void load(const float *tau, const Tile &tile, i64 K, floats &t) const {
    for (i64 k = 0; k < K; ++k) {
      std::memset(&t[k * W], 0, W * sizeof(float));
      std::memcpy(&t[k * W], tau + (tile.n * K + k) * L + tile.l0, tile.width * sizeof(float));
    }
  }
  void store(float *tau, const Tile &tile, i64 K, const floats &t) const {
    for (i64 k = 0; k < K; ++k)
      std::memcpy(tau + (tile.n * K + k) * L + tile.l0, &t[k * W], tile.width * sizeof(float));
  }
};

// Sums over positions in a table (K, C); in the first layout every entry has lanes of its own.
struct Table {
  i64 K, C;
  bool last;
  floats f;
  doubles d;
  Table(i64 K, i64 C, bool last) : K(K), C(C), last(last), f(K * C * (last ? 1 : LANES), 0.f), d(K * C, 0.0) {}
  float *lanes(i64 k, i64 c) { return &f[(k * C + c) * LANES]; }
  float *row(i64 k) { return &f[k * C]; }
  void done() {
    if (last) {
      flush(f, d);
      return;
    }
    for (i64 j = 0; j < K * C; ++j)
      for (int i = 0; i < LANES; ++i) { d[j] += f[j * LANES + i]; f[j * LANES + i] = 0.f; }
  }
};

// Runs work(thread's tables, first tile, last tile) in parallel, then adds the tables in the order of threads.
template <class F> void over_tiles(const Tiles &tiles, int threads, std::vector<std::vector<Table>> &sums, F work) {
  const i64 total = tiles.count();
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
  for (int thread = 0; thread < threads; ++thread) {
    work(sums[thread], total * thread / threads, total * (thread + 1) / threads);
    for (Table &table : sums[thread]) table.done();
  }
  for (int thread = 1; thread < threads; ++thread)
    for (size_t j = 0; j < sums[0].size(); ++j)
      for (size_t i = 0; i < sums[0][j].d.size(); ++i) sums[0][j].d[i] += sums[thread][j].d[i];
}

inline std::vector<std::vector<Table>> tables(int threads, int count, i64 K, i64 C, bool last) {
  return std::vector<std::vector<Table>>(threads, std::vector<Table>(count, Table(K, C, last)));
}

inline void write(const Table &from, float *to) {
  for (size_t i = 0; i < from.d.size(); ++i) to[i] = static_cast<float>(from.d[i]);
}

// Calls f(four or one, first position) until all positions are done; the count is known to the compiler.
template <class F> void in_fours(int positions, F f) {
  int i = 0;
  for (; i + 4 <= positions; i += 4) f(std::integral_constant<int, 4>{}, i);
  for (; i < positions; ++i) f(std::integral_constant<int, 1>{}, i);
}

// y of one tile: shift (C) or zero, plus the sum over k of t scale (x - m); scale (K, C).
inline void apply_tile(const Tiles &tiles, const Tile &tile, const float *x, const floats &t, const float *m,
                       const float *scale, const float *shift, float *y, i64 K) {
  const i64 C = tiles.C;
  alignas(64) float buffer[W], out[W];
  if (!tiles.last) {
    for (i64 c = 0; c < C; ++c) {
      const float *xb = tiles.row(x, tile, c, buffer);
      for (int b = 0; b < W; b += LANES) {
        const vec xv = at(xb + b);
        vec sum = vec{} + (shift ? shift[c] : 0.f);
        for (i64 k = 0; k < K; ++k) sum += at(&t[k * W + b]) * scale[k * C + c] * (xv - m[k * C + c]);
        at(out + b) = sum;
      }
      std::memcpy(y + (tile.n * C + c) * tiles.L + tile.l0, out, tile.width * sizeof(float));
    }
    return;
  }
  in_fours(tile.width, [&](auto count, int i) {
    constexpr int n = decltype(count)::value;
    i64 c = 0;
    for (; c + LANES <= C; c += LANES) {
      vec sum[n];
      for (int q = 0; q < n; ++q) sum[q] = shift ? at(shift + c) : vec{};
      for (i64 k = 0; k < K; ++k) {
        const vec s = at(scale + k * C + c), mk = at(m + k * C + c);
        for (int q = 0; q < n; ++q)
          sum[q] += t[k * W + i + q] * s * (at(x + tiles.point(tile, i + q) + c) - mk);
      }
      for (int q = 0; q < n; ++q) at(y + tiles.point(tile, i + q) + c) = sum[q];
    }
    for (; c < C; ++c)
      for (int q = 0; q < n; ++q) {
        const i64 from = tiles.point(tile, i + q) + c;
        float sum = shift ? shift[c] : 0.f;
        for (i64 k = 0; k < K; ++k) sum += t[k * W + i + q] * scale[k * C + c] * (x[from] - m[k * C + c]);
        y[from] = sum;
      }
  });
}

} // namespace

extern "C" {

// ---- one affine map a sample and channel

// y = (x - centre) slope + shift; tables (N, C), or (1, C) with step 0; shift may be null.
void affine_forward(const float *x, const float *centre, const float *slope, const float *shift, float *y, i64 N,
                    i64 C, i64 L, int last, i64 cstep, i64 sstep, i64 bstep, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (i64 n = 0; n < N; ++n) {
    const float *m = centre + n * cstep, *a = slope + n * sstep, *b = shift ? shift + n * bstep : nullptr;
    const float *xn = x + n * C * L;
    float *yn = y + n * C * L;
    if (!last) {
      for (i64 c = 0; c < C; ++c) {
        const float mc = m[c], ac = a[c], bc = b ? b[c] : 0.f;
        const float *xr = xn + c * L;
        float *yr = yn + c * L;
#pragma omp simd
        for (i64 l = 0; l < L; ++l) yr[l] = (xr[l] - mc) * ac + bc;
      }
    } else if (b) {
      for (i64 l = 0; l < L; ++l)
#pragma omp simd
        for (i64 c = 0; c < C; ++c) yn[l * C + c] = (xn[l * C + c] - m[c]) * a[c] + b[c];
    } else {
      for (i64 l = 0; l < L; ++l)
#pragma omp simd
        for (i64 c = 0; c < C; ++c) yn[l * C + c] = (xn[l * C + c] - m[c]) * a[c];
    }
  }
}

// dx = g slope; g0 = sum over positions of g; g1 = that of g (x - centre); g0, g1 are (N, C).
void affine_backward(const float *x, const float *g, const float *centre, const float *slope, float *dx, float *g0,
                     float *g1, i64 N, i64 C, i64 L, int last, i64 cstep, i64 sstep, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (i64 n = 0; n < N; ++n) {
    const float *m = centre + n * cstep, *a = slope + n * sstep;
    const float *xn = x + n * C * L, *gn = g + n * C * L;
    float *dn = dx + n * C * L, *s0 = g0 + n * C, *s1 = g1 + n * C;
    if (!last) {
      for (i64 c = 0; c < C; ++c) {
        const float mc = m[c], ac = a[c];
        const float *xr = xn + c * L, *gr = gn + c * L;
        float *dr = dn + c * L;
        float t0 = 0.f, t1 = 0.f;
#pragma omp simd reduction(+ : t0, t1)
        for (i64 l = 0; l < L; ++l) {
          t0 += gr[l];
          t1 += gr[l] * (xr[l] - mc);
          dr[l] = gr[l] * ac;
        }
        s0[c] = t0;
        s1[c] = t1;
      }
    } else {
      for (i64 c = 0; c < C; ++c) s0[c] = s1[c] = 0.f;
      for (i64 l = 0; l < L; ++l) {
        const float *xr = xn + l * C, *gr = gn + l * C;
        float *dr = dn + l * C;
#pragma omp simd
        for (i64 c = 0; c < C; ++c) {
          s0[c] += gr[c];
          s1[c] += gr[c] * (xr[c] - m[c]);
          dr[c] = gr[c] * a[c];
        }
      }
    }
  }
}

// Mean and centred sum of squares over positions, (N, C) each.
void sample_moments(const float *x, float *mean, float *square, i64 N, i64 C, i64 L, int last, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (i64 n = 0; n < N; ++n) {
    const float *xn = x + n * C * L;
    float *m = mean + n * C, *s = square + n * C;
    if (!last) {
      for (i64 c = 0; c < C; ++c) {
        const float *xr = xn + c * L;
        float sum = 0.f, ss = 0.f;
#pragma omp simd reduction(+ : sum)
        for (i64 l = 0; l < L; ++l) sum += xr[l];
        const float mc = sum / static_cast<float>(L);
#pragma omp simd reduction(+ : ss)
        for (i64 l = 0; l < L; ++l) ss += (xr[l] - mc) * (xr[l] - mc);
        m[c] = mc;
        s[c] = ss;
      }
    } else {
      for (i64 c = 0; c < C; ++c) m[c] = s[c] = 0.f;
      for (i64 l = 0; l < L; ++l)
#pragma omp simd
        for (i64 c = 0; c < C; ++c) m[c] += xn[l * C + c];
      for (i64 c = 0; c < C; ++c) m[c] /= static_cast<float>(L);
      for (i64 l = 0; l < L; ++l)
#pragma omp simd
        for (i64 c = 0; c < C; ++c) { const float d = xn[l * C + c] - m[c]; s[c] += d * d; }
    }
  }
}

// ---- mixture, one posterior a scalar

// Tables (K, C): a = log prior - log(s)/2, h = 1/(2 s), mu; w (K) = prior^(-1/2).
// batch: m and v come out as moments of the batch, mass as S; dead components keep the m, v that came in.
void scalar_forward(const float *x, const float *a, const float *h, const float *mu, const float *w, float *mass,
                    float *m, float *v, float *y, i64 N, i64 C, i64 L, i64 K, int last, int batch, float eps,
                    float dead, int threads) {
  const i64 groups = Group::count(C, last);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Posterior post(K);
    floats mean(K * W), scale(K * W);
    Sums s0(K * W), s1(K * W), s2(K * W);
    doubles t0(K * C), t1(K * C), t2(K * C);
    alignas(64) float buffer[W], mask[W], out[W];
#pragma omp for schedule(static)
    for (i64 index = 0; index < groups; ++index) {
      const Group group(N, C, L, last, index);
      group.spread(a, K, post.a);
      group.spread(h, K, post.h);
      group.spread(mu, K, post.mu);
      const i64 blocks = group.blocks();
      post.begin(batch ? blocks : LLONG_MAX / (K * W));
      if (batch) {
        s0.reset();
        s1.reset();
        s2.reset();
        for (i64 b = 0; b < blocks; ++b) {
          const float *xb = group.load(x, b, buffer);
          group.mask(b, mask);
          const float *t = post.first(b, xb, mask);
          for (i64 j = 0; j < K * W; j += LANES) {
            const vec d = at(xb + j % W) - at(&post.mu[j]), td = at(t + j) * d;
            at(&s0.f[j]) += at(t + j);
            at(&s1.f[j]) += td;
            at(&s2.f[j]) += td * d;
          }
          if (b % FLUSH == FLUSH - 1) { s0.done(); s1.done(); s2.done(); }
        }
        s0.done();
        s1.done();
        s2.done();
        group.gather(s0.d, K, t0.data());
        group.gather(s1.d, K, t1.data());
        group.gather(s2.d, K, t2.data());
        bool near = true;
        for (i64 k = 0; k < K; ++k)
          for (i64 c = group.c0; c < group.c0 + group.width; ++c) {
            const i64 j = k * C + c;
            mass[j] = static_cast<float>(t0[j]);
            if (t0[j] < dead) continue;
            const double offset = t1[j] / t0[j], variance = t2[j] / t0[j] - offset * offset;
            near = near && offset * offset <= NEAR * variance;
            m[j] = static_cast<float>(mu[j] + offset);
            v[j] = static_cast<float>(variance);
          }
        group.spread(m, K, mean);
        s1.reset();
        for (i64 b = 0; !near && b < blocks; ++b) {
          const float *xb = group.load(x, b, buffer);
          group.mask(b, mask);
          const float *t = post.again(b, xb, mask);
          for (i64 j = 0; j < K * W; j += W)
#pragma omp simd
            for (int i = 0; i < W; ++i) {
              const float d = xb[i] - mean[j + i];
              s1.f[j + i] += t[j + i] * d * d;
            }
          if (b % FLUSH == FLUSH - 1) s1.done();
        }
        s1.done();
        group.gather(s1.d, K, t1.data());
        for (i64 k = 0; k < K; ++k)
          for (i64 c = group.c0; c < group.c0 + group.width; ++c)
            if (!near && !(t0[k * C + c] < dead)) v[k * C + c] = static_cast<float>(t1[k * C + c] / t0[k * C + c]);
      } else {
        group.spread(m, K, mean);
      }
      for (i64 k = 0; k < K; ++k)
        for (int i = 0; i < W; ++i)
          scale[k * W + i] = w[k] / std::sqrt(v[k * C + group.channel(i)] + eps);
      for (i64 b = 0; b < blocks; ++b) {
        const float *xb = group.load(x, b, buffer);
        group.mask(b, mask);
        const float *t = batch ? post.again(b, xb, mask) : post.first(b, xb, mask);
#pragma omp simd
        for (int i = 0; i < W; ++i) out[i] = 0.f;
        for (i64 j = 0; j < K * W; j += W)
#pragma omp simd
          for (int i = 0; i < W; ++i) out[i] += t[j + i] * scale[j + i] * (xb[i] - mean[j + i]);
        group.store(y, b, out);
      }
    }
  }
}

// Gradients. inverse (K, C): 1/S, or 0 where m and v are given (or dead). Out, all (K, C):
// p = sum e g, q = sum e g (x - m) with e = tau w; l0, l1, l2 = sums of dl, dl (x - mu), dl (x - mu)^2.
void scalar_backward(const float *x, const float *g, const float *a, const float *h, const float *mu, const float *w,
                     const float *m, const float *v, const float *inverse, float *dx, float *p, float *q, float *l0,
                     float *l1, float *l2, i64 N, i64 C, i64 L, i64 K, int last, int batch, float eps, int threads) {
  const i64 groups = Group::count(C, last);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Posterior post(K);
    floats mean(K * W), root(K * W), var(K * W), dm(K * W, 0.f), dv(K * W, 0.f), dtau(K * W), tmp(K * C);
    Sums sp(K * W), sq(K * W), s0(K * W), s1(K * W), s2(K * W);
    doubles table(K * C);
    alignas(64) float xbuf[W], gbuf[W], mask[W], out[W], dot[W];
    const auto write = [&](const Group &group, Sums &sums, float *to) {
      sums.done();
      group.gather(sums.d, K, table.data());
      for (i64 k = 0; k < K; ++k)
        for (i64 c = group.c0; c < group.c0 + group.width; ++c) to[k * C + c] = static_cast<float>(table[k * C + c]);
    };
#pragma omp for schedule(static)
    for (i64 index = 0; index < groups; ++index) {
      const Group group(N, C, L, last, index);
      group.spread(a, K, post.a);
      group.spread(h, K, post.h);
      group.spread(mu, K, post.mu);
      group.spread(m, K, mean);
      group.spread(v, K, var);
      for (i64 j = 0; j < K * W; ++j) root[j] = 1.f / std::sqrt(var[j] + eps);
      const i64 blocks = group.blocks();
      post.begin(batch ? blocks : LLONG_MAX / (K * W));
      sp.reset(); sq.reset(); s0.reset(); s1.reset(); s2.reset();
      if (batch) {
        for (i64 b = 0; b < blocks; ++b) {
          const float *xb = group.load(x, b, xbuf), *gb = group.load(g, b, gbuf);
          group.mask(b, mask);
          const float *t = post.first(b, xb, mask);
          for (i64 j = 0; j < K * W; j += W)
#pragma omp simd
            for (int i = 0; i < W; ++i) {
              const float eg = t[j + i] * w[j / W] * gb[i];
              sp.f[j + i] += eg;
              sq.f[j + i] += eg * (xb[i] - mean[j + i]);
            }
          if (b % FLUSH == FLUSH - 1) { sp.done(); sq.done(); }
        }
        write(group, sp, p);
        write(group, sq, q);
        for (i64 k = 0; k < K; ++k)
          for (int i = 0; i < W; ++i) {
            const i64 at = k * C + group.channel(i);
            const float r = root[k * W + i];
            dm[k * W + i] = -r * p[at] * inverse[at];
            dv[k * W + i] = -0.5f * r * r * r * q[at] * inverse[at];
          }
      }
      for (i64 b = 0; b < blocks; ++b) {
        const float *xb = group.load(x, b, xbuf), *gb = group.load(g, b, gbuf);
        group.mask(b, mask);
        const float *t = batch ? post.again(b, xb, mask) : post.first(b, xb, mask);
#pragma omp simd
        for (int i = 0; i < W; ++i) out[i] = dot[i] = 0.f;
        for (i64 j = 0; j < K * W; j += W) {
          const float wk = w[j / W];
#pragma omp simd
          for (int i = 0; i < W; ++i) {
            const float tk = t[j + i], d = xb[i] - mean[j + i], gr = gb[i] * wk * root[j + i];
            const float D = d * (gr + dm[j + i]) + dv[j + i] * (d * d - var[j + i]);
            dtau[j + i] = D;
            dot[i] += tk * D;
            out[i] += tk * (gr + dm[j + i] + 2.f * dv[j + i] * d);
          }
          if (!batch)
#pragma omp simd
            for (int i = 0; i < W; ++i) {
              const float eg = t[j + i] * wk * gb[i];
              sp.f[j + i] += eg;
              sq.f[j + i] += eg * (xb[i] - mean[j + i]);
            }
        }
        for (i64 j = 0; j < K * W; j += W)
#pragma omp simd
          for (int i = 0; i < W; ++i) {
            const float dl = t[j + i] * (dtau[j + i] - dot[i]), d = xb[i] - post.mu[j + i];
            out[i] -= dl * 2.f * post.h[j + i] * d;
            s0.f[j + i] += dl;
            s1.f[j + i] += dl * d;
            s2.f[j + i] += dl * d * d;
          }
        group.store(dx, b, out);
        if (b % FLUSH == FLUSH - 1) { sp.done(); sq.done(); s0.done(); s1.done(); s2.done(); }
      }
      if (!batch) { write(group, sp, p); write(group, sq, q); }
      write(group, s0, l0);
      write(group, s1, l1);
      write(group, s2, l2);
    }
  }
}

// ---- mixture, one posterior a position

// tau from a (K) = log prior - sum log(s)/2, h and mu (K, C). With batch: mass (K), m and v (K, C), and whether v is
// exact enough, else joint_squares is due; without: y at once.
int joint_forward(const float *x, const float *a, const float *h, const float *mu, const float *w, float *tau,
                  float *mass, float *m, float *v, const float *scale, const float *shift, float *y, i64 N, i64 C,
                  i64 L, i64 K, int last, int batch, float dead, int threads) {
  const Tiles tiles(N, C, L, last);
  auto sums = tables(threads, batch ? 2 : 0, K, C, last);
  auto masses = tables(threads, 1, K, 1, true);
  over_tiles(tiles, threads, sums, [&](std::vector<Table> &own, i64 begin, i64 end) {
    Table &count = masses[&own - &sums[0]][0];
    floats t(K * W), e(K * W);
    alignas(64) float buffer[W], mask[W];
    for (i64 index = begin; index < end; ++index) {
      const Tile tile = tiles.at(index);
#pragma omp simd
      for (int i = 0; i < W; ++i) mask[i] = i < tile.width ? 1.f : 0.f;
      for (i64 k = 0; k < K; ++k)
#pragma omp simd
        for (int i = 0; i < W; ++i) t[k * W + i] = a[k];
      if (!tiles.last) {
        for (i64 c = 0; c < C; ++c) {
          const float *xb = tiles.row(x, tile, c, buffer);
          for (i64 k = 0; k < K; ++k) {
            const float hk = h[k * C + c], mk = mu[k * C + c];
            float *T = &t[k * W];
#pragma omp simd
            for (int i = 0; i < W; ++i) { const float d = xb[i] - mk; T[i] -= hk * d * d; }
          }
        }
      } else {
        in_fours(tile.width, [&](auto count, int i) {
          constexpr int n = decltype(count)::value;
          for (i64 k = 0; k < K; ++k) {
            vec sum[n] = {};
            for (i64 c = 0; c + LANES <= C; c += LANES) {
              const vec hk = at(h + k * C + c), mk = at(mu + k * C + c);
              for (int q = 0; q < n; ++q) {
                const vec d = at(x + tiles.point(tile, i + q) + c) - mk;
                sum[q] += hk * d * d;
              }
            }
            for (int q = 0; q < n; ++q) {
              float rest = total(sum[q]);
              for (i64 c = C - C % LANES; c < C; ++c) {
                const float d = x[tiles.point(tile, i + q) + c] - mu[k * C + c];
                rest += h[k * C + c] * d * d;
              }
              t[k * W + i + q] -= rest;
            }
          }
        });
      }
      softmax_block(t.data(), mask, K);
      tiles.store(tau, tile, K, t);
      if (!batch) {
        for (i64 k = 0; k < K; ++k)
#pragma omp simd
          for (int i = 0; i < W; ++i) e[k * W + i] = t[k * W + i] * w[k];
        apply_tile(tiles, tile, x, e, m, scale, shift, y, K);
        continue;
      }
      for (i64 k = 0; k < K; ++k) {
        float s = 0.f;
#pragma omp simd reduction(+ : s)
        for (int i = 0; i < W; ++i) s += t[k * W + i];
        count.f[k] += s;
      }
      Table &one = own[0], &two = own[1];
      if (!tiles.last) {
        for (i64 c = 0; c < C; ++c) {
          const float *xb = tiles.row(x, tile, c, buffer);
          for (i64 k = 0; k < K; ++k) {
            const float mk = mu[k * C + c];
            vec first = at(one.lanes(k, c)), second = at(two.lanes(k, c));
            for (int b = 0; b < W; b += LANES) {
              const vec d = at(xb + b) - mk, td = at(&t[k * W + b]) * d;
              first += td;
              second += td * d;
            }
            at(one.lanes(k, c)) = first;
            at(two.lanes(k, c)) = second;
          }
        }
      } else {
        in_fours(tile.width, [&](auto four, int i) {
          constexpr int n = decltype(four)::value;
          for (i64 k = 0; k < K; ++k) {
            i64 c = 0;
            for (; c + LANES <= C; c += LANES) {
              const vec mk = at(mu + k * C + c);
              vec first = at(one.row(k) + c), second = at(two.row(k) + c);
              for (int q = 0; q < n; ++q) {
                const vec d = at(x + tiles.point(tile, i + q) + c) - mk, td = t[k * W + i + q] * d;
                first += td;
                second += td * d;
              }
              at(one.row(k) + c) = first;
              at(two.row(k) + c) = second;
            }
            for (; c < C; ++c)
              for (int q = 0; q < n; ++q) {
                const float d = x[tiles.point(tile, i + q) + c] - mu[k * C + c], td = t[k * W + i + q] * d;
                one.row(k)[c] += td;
                two.row(k)[c] += td * d;
              }
          }
        });
      }
      if (index % 4 == 3) { count.done(); if (tiles.last) { one.done(); two.done(); } }
    }
    count.done();
  });
  if (!batch) return 1;
  for (int thread = 1; thread < threads; ++thread)
    for (i64 k = 0; k < K; ++k) masses[0][0].d[k] += masses[thread][0].d[k];
  int near = 1;
  for (i64 k = 0; k < K; ++k) {
    const double s = masses[0][0].d[k];
    mass[k] = static_cast<float>(s);
    if (s < dead) continue;
    for (i64 j = k * C; j < (k + 1) * C; ++j) {
      const double offset = sums[0][0].d[j] / s, variance = sums[0][1].d[j] / s - offset * offset;
      near = near && offset * offset <= NEAR * variance;
      m[j] = static_cast<float>(mu[j] + offset);
      v[j] = static_cast<float>(variance);
    }
  }
  return near;
}

// Sum over positions of tau (x - m)^2, (K, C).
void joint_squares(const float *x, const float *tau, const float *m, float *squares, i64 N, i64 C, i64 L, i64 K,
                   int last, int threads) {
  const Tiles tiles(N, C, L, last);
  auto sums = tables(threads, 1, K, C, last);
  over_tiles(tiles, threads, sums, [&](std::vector<Table> &own, i64 begin, i64 end) {
    floats t(K * W);
    alignas(64) float buffer[W];
    for (i64 index = begin; index < end; ++index) {
      const Tile tile = tiles.at(index);
      tiles.load(tau, tile, K, t);
      if (!tiles.last) {
        for (i64 c = 0; c < C; ++c) {
          const float *xb = tiles.row(x, tile, c, buffer);
          for (i64 k = 0; k < K; ++k) {
            const float mk = m[k * C + c];
            float *to = own[0].lanes(k, c);
            for (int b = 0; b < W; b += LANES)
#pragma omp simd
              for (int i = 0; i < LANES; ++i) { const float d = xb[b + i] - mk; to[i] += t[k * W + b + i] * d * d; }
          }
        }
        continue;
      }
        in_fours(tile.width, [&](auto four, int i) {
          constexpr int n = decltype(four)::value;
          for (i64 k = 0; k < K; ++k) {
            i64 c = 0;
            for (; c + LANES <= C; c += LANES) {
              const vec mk = at(m + k * C + c);
              vec sum = at(own[0].row(k) + c);
              for (int q = 0; q < n; ++q) {
                const vec d = at(x + tiles.point(tile, i + q) + c) - mk;
                sum += t[k * W + i + q] * d * d;
              }
              at(own[0].row(k) + c) = sum;
            }
            for (; c < C; ++c)
              for (int q = 0; q < n; ++q) {
                const float d = x[tiles.point(tile, i + q) + c] - m[k * C + c];
                own[0].row(k)[c] += t[k * W + i + q] * d * d;
              }
          }
        });
      if (index % 4 == 3) own[0].done();
    }
  });
  write(sums[0][0], squares);
}

// y from given responsibilities.
void joint_apply(const float *x, const float *tau, const float *w, const float *m, const float *scale,
                 const float *shift, float *y, i64 N, i64 C, i64 L, i64 K, int last, int threads) {
  const Tiles tiles(N, C, L, last);
  auto none = tables(threads, 0, K, C, last);
  over_tiles(tiles, threads, none, [&](std::vector<Table> &, i64 begin, i64 end) {
    floats t(K * W);
    for (i64 index = begin; index < end; ++index) {
      const Tile tile = tiles.at(index);
      tiles.load(tau, tile, K, t);
      for (i64 k = 0; k < K; ++k)
#pragma omp simd
        for (int i = 0; i < W; ++i) t[k * W + i] *= w[k];
      apply_tile(tiles, tile, x, t, m, scale, shift, y, K);
    }
  });
}

// p = sum e g, q = sum e g (x - m), (K, C); u = sum over channels of g (x - m) scale, shaped like tau,
// unless null.
void joint_sums(const float *x, const float *g, const float *tau, const float *w, const float *m, const float *scale,
                float *p, float *q, float *u, i64 N, i64 C, i64 L, i64 K, int last, int threads) {
  const Tiles tiles(N, C, L, last);
  auto sums = tables(threads, 2, K, C, last);
  over_tiles(tiles, threads, sums, [&](std::vector<Table> &own, i64 begin, i64 end) {
    floats t(K * W), U(K * W), parts(4 * K * LANES);
    alignas(64) float xbuf[W], gbuf[W];
    for (i64 index = begin; index < end; ++index) {
      const Tile tile = tiles.at(index);
      tiles.load(tau, tile, K, t);
      for (i64 k = 0; k < K; ++k)
#pragma omp simd
        for (int i = 0; i < W; ++i) { t[k * W + i] *= w[k]; U[k * W + i] = 0.f; }
      if (!tiles.last) {
        for (i64 c = 0; c < C; ++c) {
          const float *xb = tiles.row(x, tile, c, xbuf), *gb = tiles.row(g, tile, c, gbuf);
          for (i64 k = 0; k < K; ++k) {
            const float mk = m[k * C + c], s = scale[k * C + c];
            vec P = at(own[0].lanes(k, c)), Q = at(own[1].lanes(k, c));
            for (int b = 0; b < W; b += LANES) {
              const vec gv = at(gb + b), tv = at(&t[k * W + b]), gd = gv * (at(xb + b) - mk);
              P += tv * gv;
              Q += tv * gd;
              if (u) at(&U[k * W + b]) += gd * s;
            }
            at(own[0].lanes(k, c)) = P;
            at(own[1].lanes(k, c)) = Q;
          }
        }
      } else {
        in_fours(tile.width, [&](auto count, int i) {
          constexpr int n = decltype(count)::value;
          std::fill(parts.begin(), parts.end(), 0.f);
          i64 c = 0;
          for (; c + LANES <= C; c += LANES)
            for (i64 k = 0; k < K; ++k) {
              const vec mv = at(m + k * C + c), sv = at(scale + k * C + c);
              vec P = at(own[0].row(k) + c), Q = at(own[1].row(k) + c);
              for (int q = 0; q < n; ++q) {
                const i64 from = tiles.point(tile, i + q) + c;
                const vec gv = at(g + from), gd = gv * (at(x + from) - mv);
                const float e = t[k * W + i + q];
                P += e * gv;
                Q += e * gd;
                if (u) at(&parts[(k * 4 + q) * LANES]) += gd * sv;
              }
              at(own[0].row(k) + c) = P;
              at(own[1].row(k) + c) = Q;
            }
          for (i64 k = 0; k < K; ++k)
            for (int q = 0; q < n; ++q) {
              float sum = total(at(&parts[(k * 4 + q) * LANES]));
              for (i64 r = c; r < C; ++r) {
                const i64 from = tiles.point(tile, i + q) + r;
                const float gd = g[from] * (x[from] - m[k * C + r]), e = t[k * W + i + q];
                own[0].row(k)[r] += e * g[from];
                own[1].row(k)[r] += e * gd;
                sum += gd * scale[k * C + r];
              }
              U[k * W + i + q] = sum;
            }
        });
        if (index % 4 == 3) { own[0].done(); own[1].done(); }
      }
      if (u) tiles.store(u, tile, K, U);
    }
  });
  write(sums[0][0], p);
  write(sums[0][1], q);
}

// dx, and l0 (K), l1, l2 (K, C): sums of dl, dl (x - mu), dl (x - mu)^2. dm, dv (K, C) are the moments' gradients
// over the mass (zero for given moments). With constant: responsibilities carry no gradient, l0 to l2 stay zero.
void joint_backward(const float *x, const float *g, const float *tau, const float *u, const float *h, const float *mu,
                    const float *w, const float *m, const float *v, const float *scale, const float *dm,
                    const float *dv, float *dx, float *l0, float *l1, float *l2, i64 N, i64 C, i64 L, i64 K, int last,
                    int batch, int constant, int threads) {
  const Tiles tiles(N, C, L, last);
  auto sums = tables(threads, constant ? 0 : 2, K, C, last);
  auto zeros = tables(threads, 1, K, 1, true);
  floats drift(K, 0.f);
  for (i64 k = 0; k < K; ++k) {
    double total = 0.0;
    for (i64 c = 0; c < C; ++c) total += static_cast<double>(dv[k * C + c]) * v[k * C + c];
    drift[k] = static_cast<float>(total);
  }
  over_tiles(tiles, threads, sums, [&](std::vector<Table> &own, i64 begin, i64 end) {
    Table &zero = zeros[&own - &sums[0]][0];
    floats t(K * W), D(K * W, 0.f);
    alignas(64) float xbuf[W], gbuf[W], out[W], dot[W];
    for (i64 index = begin; index < end; ++index) {
      const Tile tile = tiles.at(index);
      tiles.load(tau, tile, K, t);
      if (!constant) {
        tiles.load(u, tile, K, D);
        for (i64 k = 0; k < K; ++k)
#pragma omp simd
          for (int i = 0; i < W; ++i) D[k * W + i] = D[k * W + i] * w[k] - drift[k];
        if (batch && !tiles.last) {
          for (i64 c = 0; c < C; ++c) {
            const float *xb = tiles.row(x, tile, c, xbuf);
            for (i64 k = 0; k < K; ++k) {
              const float mk = m[k * C + c], a = dm[k * C + c], b = dv[k * C + c];
              float *T = &D[k * W];
#pragma omp simd
              for (int i = 0; i < W; ++i) { const float d = xb[i] - mk; T[i] += d * (a + b * d); }
            }
          }
        } else if (batch) {
          in_fours(tile.width, [&](auto count, int i) {
            constexpr int n = decltype(count)::value;
            for (i64 k = 0; k < K; ++k) {
              vec sum[n] = {};
              for (i64 c = 0; c + LANES <= C; c += LANES) {
                const vec mk = at(m + k * C + c), a = at(dm + k * C + c), b = at(dv + k * C + c);
                for (int q = 0; q < n; ++q) {
                  const vec d = at(x + tiles.point(tile, i + q) + c) - mk;
                  sum[q] += d * (a + b * d);
                }
              }
              for (int q = 0; q < n; ++q) {
                float rest = total(sum[q]);
                for (i64 c = C - C % LANES; c < C; ++c) {
                  const float d = x[tiles.point(tile, i + q) + c] - m[k * C + c];
                  rest += d * (dm[k * C + c] + dv[k * C + c] * d);
                }
                D[k * W + i + q] += rest;
              }
            }
          });
        }
#pragma omp simd
        for (int i = 0; i < W; ++i) dot[i] = 0.f;
        for (i64 k = 0; k < K; ++k)
#pragma omp simd
          for (int i = 0; i < W; ++i) dot[i] += t[k * W + i] * D[k * W + i];
        for (i64 k = 0; k < K; ++k) {
          float s = 0.f;
#pragma omp simd reduction(+ : s)
          for (int i = 0; i < W; ++i) {
            D[k * W + i] = t[k * W + i] * (D[k * W + i] - dot[i]);
            s += D[k * W + i];
          }
          zero.f[k] += s;
        }
      }
      if (!tiles.last) {
        for (i64 c = 0; c < C; ++c) {
          const float *xb = tiles.row(x, tile, c, xbuf), *gb = tiles.row(g, tile, c, gbuf);
          vec sum[W / LANES] = {};
          for (i64 k = 0; k < K; ++k) {
            const i64 j = k * C + c;
            const float s = w[k] * scale[j], b = 2.f * dv[j], a = dm[j], hk = -2.f * h[j], mk = m[j], muk = mu[j];
            const float *T = &t[k * W], *E = &D[k * W];
            for (int q = 0; q < W / LANES; ++q)
              sum[q] += at(T + q * LANES) * (s * at(gb + q * LANES) + (a + b * (at(xb + q * LANES) - mk)));
            if (constant) continue;
            vec one = at(own[0].lanes(k, c)), two = at(own[1].lanes(k, c));
            for (int q = 0; q < W / LANES; ++q) {
              const vec d = at(xb + q * LANES) - muk, ed = at(E + q * LANES) * d;
              sum[q] += hk * ed;
              one += ed;
              two += ed * d;
            }
            at(own[0].lanes(k, c)) = one;
            at(own[1].lanes(k, c)) = two;
          }
          for (int q = 0; q < W / LANES; ++q) at(out + q * LANES) = sum[q];
          std::memcpy(dx + (tile.n * C + c) * tiles.L + tile.l0, out, tile.width * sizeof(float));
        }
        if (index % 4 == 3) zero.done();
        continue;
      }
      in_fours(tile.width, [&](auto count, int i) {
        constexpr int n = decltype(count)::value;
        for (i64 c = 0; c + LANES <= C; c += LANES) {
          vec sum[n] = {};
          for (i64 k = 0; k < K; ++k) {
            const i64 j = k * C + c;
            const vec s = w[k] * at(scale + j), b = 2.f * at(dv + j), a = at(dm + j), mk = at(m + j);
            for (int q = 0; q < n; ++q) {
              const i64 from = tiles.point(tile, i + q) + c;
              sum[q] += t[k * W + i + q] * (s * at(g + from) + (a + b * (at(x + from) - mk)));
            }
            if (constant) continue;
            const vec hk = -2.f * at(h + j), muk = at(mu + j);
            vec one = at(own[0].row(k) + c), two = at(own[1].row(k) + c);
            for (int q = 0; q < n; ++q) {
              const vec d = at(x + tiles.point(tile, i + q) + c) - muk, ed = D[k * W + i + q] * d;
              sum[q] += hk * ed;
              one += ed;
              two += ed * d;
            }
            at(own[0].row(k) + c) = one;
            at(own[1].row(k) + c) = two;
          }
          for (int q = 0; q < n; ++q) at(dx + tiles.point(tile, i + q) + c) = sum[q];
        }
      });
      for (i64 c = C - C % LANES; c < C; ++c)
        for (i64 k = 0; k < K; ++k) {
          const i64 j = k * C + c;
          for (int i = 0; i < tile.width; ++i) {
            const i64 from = tiles.point(tile, i) + c;
            float sum = t[k * W + i] * (w[k] * scale[j] * g[from] + dm[j] + 2.f * dv[j] * (x[from] - m[j]));
            if (!constant) {
              const float d = x[from] - mu[j], ed = D[k * W + i] * d;
              sum -= 2.f * h[j] * ed;
              own[0].row(k)[c] += ed;
              own[1].row(k)[c] += ed * d;
            }
            dx[from] = k ? dx[from] + sum : sum;
          }
        }
      if (index % 4 == 3) { zero.done(); for (Table &table : own) table.done(); }
    }
    zero.done();
  });
  if (constant) return;
  for (int thread = 1; thread < threads; ++thread)
    for (i64 k = 0; k < K; ++k) zeros[0][0].d[k] += zeros[thread][0].d[k];
  write(zeros[0][0], l0);
  write(sums[0][0], l1);
  write(sums[0][1], l2);
}

} // extern "C"
