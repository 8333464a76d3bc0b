// Matrices as they lie in memory, and sixteen of their outputs for a few rows of input.
//
// Plain ones lie row by row. Packed ones lie in blocks of sixteen rows, each block all columns in order, so that a lane
// is a row and nothing is added up across lanes:
//   INT8   for each four columns 64 bytes: row by row four codes, code = number + 128. weight = number * scale[row].
//   INT4   for each group of columns: 16 scale codes (unsigned), 16 zero codes (signed), and for each eight columns 64
//          bytes: row by row four bytes, of which the low nibbles are the first four columns and the high ones the rest.
//          weight = (nibble - 8) * scale code * scale[row] + zero code * zero[row].
// The input of packed matrices is rounded to INT8 too, with a step for each 32 numbers; the sums of products are exact.
#pragma once

#include "crew.h"
#include "lanes.h"
#include "tile.h"

namespace laguna {

enum Kind : int32_t { FLOAT32, BFLOAT16, INT8, INT4 };
enum Type : int32_t { WIDE, NARROW };  // float32 and bfloat16 numbers

struct Matrix {
    int32_t kind, group;
    int64_t rows, columns;  // columns as they are stored, filled up with zeros
    const uint8_t* data;
    const float* scale;           // INT8: [rows']; INT4: [rows', 2], scale and zero
    int64_t step, scale_step;     // from one matrix of a stack to the next, in bytes and in floats

    Matrix at(int64_t index) const {
        Matrix one = *this;
        one.data += index * step;
        one.scale += index * scale_step;
        return one;
    }
    int64_t blocks() const { return (rows + LANES - 1) / LANES; }
    int64_t block_bytes() const {
        switch (kind) {
            case FLOAT32: return LANES * columns * 4;
            case BFLOAT16: return LANES * columns * 2;
            case INT8: return LANES * columns;
            default: return columns / group * (2 * LANES + 8 * group);
        }
    }
};

constexpr int64_t PART = 32;  // columns of input that share a step

inline float read(const void* p, Type type, int64_t i) {
    return type == WIDE ? ((const float*)p)[i] : narrow_to_float(((const uint16_t*)p)[i]);
}
inline void write(void* p, Type type, int64_t i, float x) {
    if (type == WIDE) ((float*)p)[i] = x;
    else ((uint16_t*)p)[i] = float_to_narrow(x);
}
inline float rounded(float x, Type type) { return type == WIDE ? x : narrow_to_float(float_to_narrow(x)); }

inline void widen(const void* p, Type type, int64_t count, float* out) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(out + i, type == WIDE ? load((const float*)p + i) : load_narrow((const uint16_t*)p + i));
    for (; i < count; i++) out[i] = read(p, type, i);
}
inline void narrow(const float* x, Type type, int64_t count, void* out) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        if (type == WIDE) store((float*)out + i, load(x + i));
        else store_narrow((uint16_t*)out + i, load(x + i));
    }
    for (; i < count; i++) write(out, type, i, x[i]);
}

// x / its root mean square, rounded, times weight, rounded again: as the reference rounds.
inline void normalise(float* x, int64_t count, const void* weight, float eps, Type type) {
    F squares = zero();
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) squares = fma(load(x + i), load(x + i), squares);
    float total = sum(squares);
    for (; i < count; i++) total += x[i] * x[i];
    float factor = 1.0f / std::sqrt(total / float(count) + eps);
    for (i = 0; i < count; i++) x[i] = rounded(rounded(x[i] * factor, type) * read(weight, type, i), type);
}

// Rows of numbers in the form that a kind of matrix multiplies with.
struct Input {
    int64_t columns;
    float* wide = nullptr;      // [rows, columns]; for bfloat16 matrices each 32 with the even ones before the odd ones
    uint16_t* narrow = nullptr;  // [rows, columns], for bfloat16 matrices where the unit multiplies those
    int8_t* codes = nullptr;    // [rows, columns]
    float* steps = nullptr;     // [rows, columns / PART]
    int32_t* totals = nullptr;  // [rows, columns / PART], of the codes

    Input(const Matrix& m, int64_t rows, Scratch& scratch) : columns(m.columns) {
#if LANES_NARROW
        if (m.kind == BFLOAT16) {
            narrow = scratch.take<uint16_t>(rows * columns);
            return;
        }
#endif
        if (m.kind == FLOAT32 || m.kind == BFLOAT16) {
            wide = scratch.take<float>(rows * columns);
            return;
        }
        codes = scratch.take<int8_t>(rows * columns);
        steps = scratch.take<float>(rows * (columns / PART));
        totals = scratch.take<int32_t>(rows * (columns / PART));
    }

    void set(const Matrix& m, int64_t row, const float* x, int64_t count) {
        if (m.kind == FLOAT32) {
            std::memcpy(wide + row * columns, x, size_t(count) * 4);
        } else if (narrow) {
            laguna::narrow(x, NARROW, count, narrow + row * columns);
        } else if (m.kind == BFLOAT16) {
            float* out = wide + row * columns;
            int64_t i = 0;
            for (; i + 32 <= count; i += 32)
                for (int k = 0; k < LANES; k++) out[i + k] = x[i + 2 * k], out[i + LANES + k] = x[i + 2 * k + 1];
            for (; i < count; i++) out[i] = x[i];
        } else {
            for (int64_t part = 0; part < columns / PART; part++) set_part(row, part, x, count);
        }
    }

  private:
    void set_part(int64_t row, int64_t part, const float* x, int64_t count) {
        float some[PART];
        int64_t held = count - part * PART;
        held = held < 0 ? 0 : held > PART ? PART : held;
        std::memset(some, 0, sizeof some);
        std::memcpy(some, x + part * PART, size_t(held) * 4);
        F a = load(some), b = load(some + LANES);
        float largest = greatest(greater(size_of(a), size_of(b)));
        float step = largest / 127.0f + sum(add(sub(a, a), sub(b, b)));  // no number, where one of them is none
        if (step != step) a = b = zero();
        F inverse = all(largest > 0 ? 127.0f / largest : 0.0f);
        int8_t* out = codes + row * columns + part * PART;
        int32_t total = sum_codes(round(mul(a, inverse)), out);
        totals[row * (columns / PART) + part] = total + sum_codes(round(mul(b, inverse)), out + LANES);
        steps[row * (columns / PART) + part] = step;
    }
};

// An AVX2 core that goes through bfloat16 row by row has few reads under way, and what it asks for far ahead keeps others
// waiting. STREAMS rows at once, each a stream that the processor sees by itself, come as fast as if nothing were
// multiplied (measured, GB/s of two cores: 30 of 31, row by row 23), if they are long enough for it to see.
#if LANES_AVX2
constexpr int STREAMS = 4;
constexpr int64_t STREAM_BYTES = 4096, AHEAD_NARROW = 1024;
#else
constexpr int STREAMS = 1;
constexpr int64_t STREAM_BYTES = 0, AHEAD_NARROW = AHEAD;
#endif

// Rows `row` to `row` + R - 1 of a bfloat16 matrix times T rows of input: out[t * LANES + r].
#if LANES_NARROW
template <int T, int R>
void narrow_rows(const Matrix& m, int64_t row, const Input& x, const int32_t* which, float* out) {
    int64_t columns = m.columns, whole = columns / 32 * 32;
    auto w = (const uint16_t*)m.data + row * columns;
    F sums[R][T];
    for (auto& of_row : sums)
        for (F& one : of_row) one = zero();
    for (int64_t k = 0; k < whole; k += 32)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            ahead((const char*)(w + r * columns + k) + AHEAD_NARROW);
            N weights = load_thirty_two(w + r * columns + k);
            for (int t = 0; t < T; t++)
                sums[r][t] = dot_narrow(sums[r][t], weights, load_thirty_two(x.narrow + which[t] * columns + k));
        }
    for (int r = 0; r < R; r++)
        for (int t = 0; t < T; t++) {
            float total = sum(sums[r][t]);
            for (int64_t k = whole; k < columns; k++)
                total += narrow_to_float(w[r * columns + k]) * narrow_to_float(x.narrow[which[t] * columns + k]);
            out[t * LANES + r] = total;
        }
}
#else
template <int T, int R>
void narrow_rows(const Matrix& m, int64_t row, const Input& x, const int32_t* which, float* out) {
    // Two sums hide the wait for one another; where there are four and more, there are enough of them without.
    constexpr int SUMS = T * R < 4 ? 2 : 1;
    int64_t columns = m.columns, k = 0;
    auto w = (const uint16_t*)m.data + row * columns;
    F sums[R][T][SUMS];
    float tail[R][T] = {};
    for (auto& of_row : sums)
        for (auto& of_input : of_row)
            for (F& one : of_input) one = zero();
    for (; k + 32 <= columns; k += 32)
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            F a, b;
            if (R == 1) ahead((const char*)(w + k) + AHEAD_NARROW);
            load_narrow_pairs(w + r * columns + k, a, b);
            for (int t = 0; t < T; t++) {
                const float* input = x.wide + which[t] * columns + k;
                sums[r][t][0] = fma(a, load(input), sums[r][t][0]);
                sums[r][t][SUMS - 1] = fma(b, load(input + LANES), sums[r][t][SUMS - 1]);
            }
        }
    for (; k < columns; k++)
        for (int r = 0; r < R; r++)
            for (int t = 0; t < T; t++) tail[r][t] += narrow_to_float(w[r * columns + k]) * x.wide[which[t] * columns + k];
    for (int r = 0; r < R; r++)
        for (int t = 0; t < T; t++) {
            const F* of = sums[r][t];
            out[t * LANES + r] = sum(SUMS == 2 ? add(of[0], of[SUMS - 1]) : of[0]) + tail[r][t];
        }
}
#endif

template <int T>
void wide_row(const Matrix& m, int64_t row, const Input& x, const int32_t* which, float* out) {
    constexpr int SUMS = T < 4 ? 2 : 1;
    int64_t columns = m.columns, k = 0;
    auto w = (const float*)m.data + row * columns;
    F sums[T][SUMS];
    float tail[T] = {};
    for (auto& of_input : sums)
        for (F& one : of_input) one = zero();
    for (; k + 32 <= columns; k += 32) {
        ahead((const char*)(w + k) + AHEAD);
        ahead((const char*)(w + k) + AHEAD + 64);
        F a = load(w + k), b = load(w + k + LANES);
        for (int t = 0; t < T; t++) {
            const float* input = x.wide + which[t] * columns + k;
            sums[t][0] = fma(a, load(input), sums[t][0]);
            sums[t][SUMS - 1] = fma(b, load(input + LANES), sums[t][SUMS - 1]);
        }
    }
    for (; k < columns; k++)
        for (int t = 0; t < T; t++) tail[t] += w[k] * x.wide[which[t] * columns + k];
    for (int t = 0; t < T; t++) out[t * LANES] = sum(SUMS == 2 ? add(sums[t][0], sums[t][SUMS - 1]) : sums[t][0]) + tail[t];
}

// Outputs `first` to `first` + 15 of a matrix for the rows of input in `which`: out[t * 16 + lane]. Of a packed matrix
// `first` is a multiple of 16; beyond the last row there is nothing to be relied on.
template <int T>
void sixteen_plain(const Matrix& m, int64_t first, const Input& x, const int32_t* which, float* out) {
    int64_t many = m.rows - first < LANES ? m.rows - first : LANES, r = 0;
    if (m.kind == FLOAT32) {
        for (; r < many; r++) wide_row<T>(m, first + r, x, which, out + r);
        return;
    }
    constexpr int ROWS = T == 1 ? STREAMS : 1;
    if constexpr (ROWS > 1)
        if (m.columns * 2 >= STREAM_BYTES)
            for (; r + ROWS <= many; r += ROWS) narrow_rows<T, ROWS>(m, first + r, x, which, out + r);
    for (; r < many; r++) narrow_rows<T, 1>(m, first + r, x, which, out + r);
}

template <int T>
void sixteen_int8(const Matrix& m, int64_t first, const Input& x, const int32_t* which, float* out) {
    const uint8_t* w = m.data + first / LANES * m.block_bytes();
    int64_t columns = m.columns, parts = columns / PART;
    F totals[T];
    for (int t = 0; t < T; t++) totals[t] = zero();
    for (int64_t part = 0; part < parts; part++) {
        I exact[T];
        for (int t = 0; t < T; t++) exact[t] = all_int(-DOT_OFFSET * x.totals[which[t] * parts + part]);
        for (int64_t k = 0; k < PART; k += 4, w += 64) {
            ahead(w + AHEAD);
            B codes = load_bytes(w);
            for (int t = 0; t < T; t++) exact[t] = dot_codes(exact[t], codes, x.codes + which[t] * columns + part * PART + k);
        }
        for (int t = 0; t < T; t++) totals[t] = fma(to_float(exact[t]), all(x.steps[which[t] * parts + part]), totals[t]);
    }
    F scale = load(m.scale + first);
    for (int t = 0; t < T; t++) store(out + t * LANES, mul(totals[t], scale));
}

template <int T>
void sixteen_int4(const Matrix& m, int64_t first, const Input& x, const int32_t* which, float* out) {
    const uint8_t* w = m.data + first / LANES * m.block_bytes();
    int64_t columns = m.columns, parts = columns / PART, each = m.group / PART;
    F totals[T], zeros[T];
    for (int t = 0; t < T; t++) totals[t] = zeros[t] = zero();
    for (int64_t group = 0; group < columns / m.group; group++) {
        F scale = load_unsigned(w), shift = load_signed((const int8_t*)w + LANES);
        w += 2 * LANES;
        for (int64_t part = group * each; part < (group + 1) * each; part++) {
            I exact[T];
            for (int t = 0; t < T; t++) exact[t] = all_int(-8 * x.totals[which[t] * parts + part]);
            for (int64_t k = 0; k < PART; k += 8, w += 64) {
                ahead(w + AHEAD);
                B both = load_bytes(w);
                B early = low(both), late = high(both);
                for (int t = 0; t < T; t++) {
                    const int8_t* codes = x.codes + which[t] * columns + part * PART + k;
                    exact[t] = dot_nibbles(dot_nibbles(exact[t], early, codes), late, codes + 4);
                }
            }
            for (int t = 0; t < T; t++) {
                float step = x.steps[which[t] * parts + part];
                totals[t] = fma(mul(to_float(exact[t]), scale), all(step), totals[t]);
                zeros[t] = fma(shift, all(step * float(x.totals[which[t] * parts + part])), zeros[t]);
            }
        }
    }
    float pairs[2][LANES];
    for (int i = 0; i < LANES; i++) pairs[0][i] = m.scale[2 * (first + i)], pairs[1][i] = m.scale[2 * (first + i) + 1];
    for (int t = 0; t < T; t++)
        store(out + t * LANES, fma(zeros[t], load(pairs[1]), mul(totals[t], load(pairs[0]))));
}

template <int T>
void sixteen_of(const Matrix& m, int64_t first, const Input& x, const int32_t* which, float* out) {
    switch (m.kind) {
        case INT8: return sixteen_int8<T>(m, first, x, which, out);
        case INT4: return sixteen_int4<T>(m, first, x, which, out);
        default: return sixteen_plain<T>(m, first, x, which, out);
    }
}

constexpr int64_t FEW = 8;  // rows of input; more of them go by tiles, and what is done to each is shared out
#if LANES_NARROW
constexpr int64_t FEW_NARROW = 4;  // the unit is so fast that reading them again for each row is what takes the time
#else
constexpr int64_t FEW_NARROW = FEW;
#endif

inline void sixteen(const Matrix& m, int64_t first, const Input& x, const int32_t* which, int64_t count, float* out) {
    if (count > (m.kind == BFLOAT16 ? FEW_NARROW : FEW) && m.rows - first >= LANES) {
        int64_t at = first * m.columns;
#if LANES_NARROW
        if (m.kind == BFLOAT16) return tiles((const uint16_t*)m.data + at, m.columns, x.narrow, which, count, out);
#else
        if (m.kind == BFLOAT16) return tiles((const uint16_t*)m.data + at, m.columns, x.wide, which, count, out);
#endif
        if (m.kind == FLOAT32) return tiles((const float*)m.data + at, m.columns, x.wide, which, count, out);
    }
    for (; count >= 4; count -= 4, which += 4, out += 4 * LANES) sixteen_of<4>(m, first, x, which, out);
    switch (count) {
        case 3: return sixteen_of<3>(m, first, x, which, out);
        case 2: return sixteen_of<2>(m, first, x, which, out);
        case 1: return sixteen_of<1>(m, first, x, which, out);
        default: return;
    }
}

// Blocks of a matrix that make up one task: enough to be worth fetching, few enough to share out evenly.
inline int64_t blocks_a_task(const Matrix& m, int64_t blocks, int threads) {
    int64_t many = (int64_t(1) << 17) / (m.block_bytes() + 1) + 1;
    int64_t fair = blocks / (4 * int64_t(threads)) + 1;
    return many < fair ? many : fair;
}

}  // namespace laguna
