// One affine map a sample and channel, its gradients, and the moments of samples.
#include "common.hpp"

extern "C" {

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

} // extern "C"
