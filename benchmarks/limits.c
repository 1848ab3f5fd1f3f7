/* What one core can do at most: fused multiply-adds in registers, and a triad w = a u + v on arrays of a given size.
   Usage: limits KILOBYTES ... ; prints GFLOP/s, then GB/s (two arrays read, one written) for each size. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef float lanes __attribute__((vector_size(64)));
enum { CHAINS = 12, WIDTH = sizeof(lanes) / sizeof(float) };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double flops(void) {
  lanes a[CHAINS], b, c;
  for (int i = 0; i < WIDTH; i++) { b[i] = 0.999f; c[i] = 0.001f; }
  for (int k = 0; k < CHAINS; k++) a[k] = c;
  const long rounds = 20000000;
  double start = now();
  for (long n = 0; n < rounds; n++)
    for (int k = 0; k < CHAINS; k++) a[k] = a[k] * b + c;
  double spent = now() - start, sum = 0;
  for (int k = 0; k < CHAINS; k++) sum += a[k][0];
  if (sum == 42) puts("");
  return 2.0 * WIDTH * CHAINS * rounds / spent;
}

static double triad(size_t bytes) {
  size_t n = bytes / (3 * sizeof(float));
  float *u = aligned_alloc(64, (n + 64) * sizeof(float)), *v = aligned_alloc(64, (n + 64) * sizeof(float)),
        *w = aligned_alloc(64, (n + 64) * sizeof(float));
  for (size_t i = 0; i < n; i++) { u[i] = 1; v[i] = 2; w[i] = 0; }
  long rounds = 1 + (long)(2e9 / (3 * sizeof(float) * n));
  double start = now();
  for (long r = 0; r < rounds; r++) {
    float a = 1.0f / (1 + r);
#pragma omp simd
    for (size_t i = 0; i < n; i++) w[i] = a * u[i] + v[i];
    __asm__ volatile("" : : "r"(w) : "memory");
  }
  double spent = now() - start;
  free(u), free(v), free(w);
  return 3.0 * sizeof(float) * n * rounds / spent;
}

int main(int count, char **sizes) {
  printf("%.6g\n", flops() / 1e9);
  for (int i = 1; i < count; i++) printf("%.6g\n", triad(1024 * (size_t)atol(sizes[i])) / 1e9);
  return 0;
}
