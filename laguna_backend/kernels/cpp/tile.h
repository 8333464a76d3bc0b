// Many rows of input through sixteen rows of a plain matrix: tiles of the product, whose sums stay in registers.
//
// A weight that was read serves all inputs of a tile, and an input all its rows, so that multiplying is what takes the
// time; row by row, a number would be read for nearly each product. bfloat16 is widened once for all the inputs, a
// stretch of columns at a time, unless the unit multiplies it as it is. The vectors are the compiler's own, as wide as
// the unit's.
//
// What a row of input gives does not depend on those beside it: its sums are always in the same order.
#pragma once

#include "crew.h"
#include "lanes.h"

namespace laguna {

// TILE_ROWS x TILE_INPUTS sums: as many as there are registers for, beside what is being multiplied.
#if LANES_AVX512
constexpr int WIDTH = 16, TILE_ROWS = 4, TILE_INPUTS = 6;
#elif LANES_AVX2
constexpr int WIDTH = 8, TILE_ROWS = 4, TILE_INPUTS = 3;
#elif LANES_NEON
constexpr int WIDTH = 4, TILE_ROWS = 4, TILE_INPUTS = 6;
#else
constexpr int WIDTH = 4, TILE_ROWS = 4, TILE_INPUTS = 3;
#endif
constexpr int64_t STEP = 2 * LANES;     // columns that are arranged together
constexpr int64_t STRETCH = 1024;       // columns at a time: what a tile reads of them stays in the first cache
constexpr int64_t APART = STRETCH + 16;  // of the widened rows: rows at the same places of pages push each other out

typedef float V __attribute__((vector_size(4 * WIDTH)));

inline V vector_at(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

// out[i] += the sum of v[i], of four vectors.
inline void add_sums(const V* v, float* out) {
#if LANES_AVX512 || LANES_AVX2
    __m256 part[4];
    for (int i = 0; i < 4; i++) {
#if LANES_AVX512
        part[i] = _mm256_add_ps(_mm512_castps512_ps256((__m512)v[i]), _mm512_extractf32x8_ps((__m512)v[i], 1));
#else
        part[i] = (__m256)v[i];
#endif
    }
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(part[0], part[1]), _mm256_hadd_ps(part[2], part[3]));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), four));
#else
    for (int i = 0; i < 4; i++) out[i] += (v[i][0] + v[i][2]) + (v[i][1] + v[i][3]);
#endif
}

// out[t * between + r] += the products of TILE_ROWS rows of weights, `stride` apart, and T of input, over `columns`, a
// multiple of WIDTH.
template <int T>
inline void tile(
    const float* w, int64_t stride, const float* const* x, int64_t columns, float* out, int64_t between) {
    V sums[T][TILE_ROWS];
#pragma GCC unroll 8
    for (auto& row : sums)
#pragma GCC unroll 8
        for (V& one : row) one = V{};
#pragma GCC unroll 4
    for (int64_t k = 0; k < columns; k += WIDTH) {
        V input[T];
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
            input[t] = vector_at(x[t] + k);
#if LANES_AVX2
            asm("" : "+x"(input[t]));  // or GCC reads it from memory again for each row
#endif
        }
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
            V weights = vector_at(w + r * stride + k);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) sums[t][r] += weights * input[t];
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) add_sums(sums[t], out + t * between);
}

#if LANES_NARROW
template <int T>
inline void tile(
    const uint16_t* w, int64_t stride, const uint16_t* const* x, int64_t columns, float* out, int64_t between) {
    F sums[T][TILE_ROWS];
#pragma GCC unroll 8
    for (auto& row : sums)
#pragma GCC unroll 8
        for (F& one : row) one = zero();
    for (int64_t k = 0; k < columns; k += STEP) {
        N input[T];
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) input[t] = load_thirty_two(x[t] + k);
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
            N weights = load_thirty_two(w + r * stride + k);
#pragma GCC unroll 8
            for (int t = 0; t < T; t++) sums[t][r] = dot_narrow(sums[t][r], weights, input[t]);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) {
        V four[TILE_ROWS];
        for (int r = 0; r < TILE_ROWS; r++) four[r] = (V)sums[t][r].v;
        add_sums(four, out + t * between);
    }
}
#endif

template <int T = TILE_INPUTS, class Number>
inline void tile_of(
    int64_t many, const Number* w, int64_t stride, const Number* const* x, int64_t columns, float* out, int64_t between) {
    if constexpr (T > 1) {
        if (many < T) return tile_of<T - 1>(many, w, stride, x, columns, out, between);
    }
    tile<T>(w, stride, x, columns, out, between);
}

inline void widen_rows(const uint16_t* w, int64_t stride, int64_t columns, float* out) {
    for (int64_t r = 0; r < LANES; r++)
        for (int64_t k = 0; k < columns; k += STEP) {
            F even, odd;
            load_narrow_pairs(w + r * stride + k, even, odd);
            store(out + r * APART + k, even), store(out + r * APART + k + LANES, odd);
        }
}

inline float number(float x) { return x; }
inline float number(uint16_t x) { return narrow_to_float(x); }

// out[t * LANES + r] for sixteen rows from `w` on, of float32 or bfloat16, and the rows `which` of x [.., columns], which
// lie as `Input` arranges them.
template <class Number, class Given>
void tiles(const Number* w, int64_t columns, const Given* x, const int32_t* which, int64_t count, float* out) {
    constexpr bool WIDEN = sizeof(Number) < sizeof(Given);
    Scratch scratch;
    float* wide = WIDEN ? scratch.take<float>(LANES * APART) : nullptr;
    int64_t whole = columns / STEP * STEP;
    std::memset(out, 0, size_t(count) * LANES * sizeof(float));
    for (int64_t begin = 0; begin < whole; begin += STRETCH) {
        int64_t many = whole - begin < STRETCH ? whole - begin : STRETCH, stride = columns;
        const Given* weights = (const Given*)w + begin;
        if constexpr (WIDEN) {
            widen_rows(w + begin, columns, many, wide);
            weights = wide, stride = APART;
        }
        for (int64_t t = 0; t < count; t += TILE_INPUTS) {
            const Given* rows[TILE_INPUTS];
            int64_t together = count - t < TILE_INPUTS ? count - t : TILE_INPUTS;
            for (int64_t i = 0; i < together; i++) rows[i] = x + which[t + i] * columns + begin;
            for (int64_t r = 0; r < LANES; r += TILE_ROWS)
                tile_of(together, weights + r * stride, stride, rows, many, out + t * LANES + r, LANES);
        }
    }
    for (int64_t t = 0; t < count && whole < columns; t++)
        for (int64_t r = 0; r < LANES; r++)
            for (int64_t k = whole; k < columns; k++)
                out[t * LANES + r] += number(w[r * columns + k]) * number(x[which[t] * columns + k]);
}

}  // namespace laguna
