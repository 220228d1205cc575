// Mixture normalization with one posterior a position.
#include "common.hpp"

namespace {

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

// Whether all components lie within NEAR variances (squared, mean of the channels) of one point (C).
inline bool lie_close(const float *mu, const float *s, const float *point, i64 K, i64 C) {
  for (i64 k = 0; k < K; ++k) {
    double square = 0.0;
    for (i64 c = 0; c < C; ++c) {
      const double offset = static_cast<double>(mu[k * C + c]) - point[c];
      square += offset * offset / s[k * C + c];
    }
    if (!(square <= NEAR * C)) return false;
  }
  return true;
}

} // namespace

extern "C" {

// Log densities of a mixture as a (K) + sum over channels of d (slope - bend d / 2), d = x - mu; tables (K, C). Those
// of close components lack the mean of their squares, taken around middle (C): far from all of them it would swamp
// their differences. Where they lie apart, it would be large in one of them, and stays. share: what a channel counts;
// w = 1/sqrt(prior).
void joint_densities(const float *prior, const float *mu, const float *s, const float *middle, float share, float *a,
                     float *slope, float *bend, float *w, i64 K, i64 C, int) {
  doubles common(C, 0.0), constant(K);
  if (lie_close(mu, s, middle, K, C))
    for (i64 j = 0; j < K * C; ++j) common[j % C] += share / static_cast<double>(s[j]) / K;
  for (i64 k = 0; k < K; ++k) {
    constant[k] = prior[k];
    w[k] = std::exp(-0.5f * prior[k]);
    for (i64 j = k * C, c = 0; c < C; ++j, ++c) {
      const double variance = s[j], offset = static_cast<double>(mu[j]) - middle[c];
      constant[k] += 0.5 * (common[c] * offset * offset - share * std::log(variance));
      slope[j] = static_cast<float>(common[c] * offset);
      bend[j] = static_cast<float>(share / variance - common[c]);
    }
  }
  const double top = *std::max_element(constant.begin(), constant.end());
  for (i64 k = 0; k < K; ++k) a[k] = static_cast<float>(constant[k] - top);
}

// tau from the tables of joint_densities. With batch: mass (K), m and v (K, C) by sums around mu, and whether v is
// exact enough, else joint_squares is due; without: y at once.
int joint_forward(const float *x, const float *a, const float *slope, const float *bend, const float *mu,
                  const float *w, float *tau, float *mass, float *m, float *v, const float *scale, const float *shift,
                  float *y, i64 N, i64 C, i64 L, i64 K, int last, int batch, float dead, int threads) {
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
            const float first = slope[k * C + c], half = 0.5f * bend[k * C + c], mk = mu[k * C + c];
            float *T = &t[k * W];
#pragma omp simd
            for (int i = 0; i < W; ++i) { const float d = xb[i] - mk; T[i] += d * (first - half * d); }
          }
        }
      } else {
        in_fours(tile.width, [&](auto count, int i) {
          constexpr int n = decltype(count)::value;
          for (i64 k = 0; k < K; ++k) {
            vec sum[n] = {};
            for (i64 c = 0; c + LANES <= C; c += LANES) {
              const i64 j = k * C + c;
              const vec first = at(slope + j), half = 0.5f * at(bend + j), mk = at(mu + j);
              for (int q = 0; q < n; ++q) {
                const vec d = at(x + tiles.point(tile, i + q) + c) - mk;
                sum[q] += d * (first - half * d);
              }
            }
            for (int q = 0; q < n; ++q) {
              float rest = total(sum[q]);
              for (i64 c = C - C % LANES; c < C; ++c) {
                const float d = x[tiles.point(tile, i + q) + c] - mu[k * C + c];
                rest += d * (slope[k * C + c] - 0.5f * bend[k * C + c] * d);
              }
              t[k * W + i + q] += rest;
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
// What joint_densities leaves out of the log densities has no gradient either, as dl adds up to zero at a position.
void joint_backward(const float *x, const float *g, const float *tau, const float *u, const float *slope,
                    const float *bend, const float *mu, const float *w, const float *m, const float *v,
                    const float *scale, const float *dm, const float *dv, float *dx, float *l0, float *l1, float *l2,
                    i64 N, i64 C, i64 L, i64 K, int last, int batch, int constant, int threads) {
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
            const float s = w[k] * scale[j], b = 2.f * dv[j], a = dm[j], mk = m[j], muk = mu[j];
            const float first = slope[j], second = bend[j];
            const float *T = &t[k * W], *E = &D[k * W];
            for (int q = 0; q < W / LANES; ++q)
              sum[q] += at(T + q * LANES) * (s * at(gb + q * LANES) + (a + b * (at(xb + q * LANES) - mk)));
            if (constant) continue;
            vec one = at(own[0].lanes(k, c)), two = at(own[1].lanes(k, c));
            for (int q = 0; q < W / LANES; ++q) {
              const vec d = at(xb + q * LANES) - muk, e = at(E + q * LANES), ed = e * d;
              sum[q] += first * e - second * ed;
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
            const vec first = at(slope + j), second = at(bend + j), muk = at(mu + j);
            vec one = at(own[0].row(k) + c), two = at(own[1].row(k) + c);
            for (int q = 0; q < n; ++q) {
              const float e = D[k * W + i + q];
              const vec d = at(x + tiles.point(tile, i + q) + c) - muk, ed = e * d;
              sum[q] += first * e - second * ed;
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
              sum += slope[j] * D[k * W + i] - bend[j] * ed;
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
