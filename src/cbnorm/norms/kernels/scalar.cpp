// Mixture normalization with one posterior a scalar.
#include "common.hpp"

namespace {

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

} // namespace

extern "C" {

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

} // extern "C"
