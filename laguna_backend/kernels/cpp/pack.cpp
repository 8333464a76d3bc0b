// Packing: plain rows made into the blocks that matrix.h describes, with account kept of the error.
#include "matrix.h"

using namespace laguna;

namespace {

struct Error {
    double squares = 0, wrong = 0;  // of the numbers, and of what was lost of them

    void count(float number, float now) {
        squares += double(number) * number;
        wrong += double(now - number) * (now - number);
    }
};

F least(F a, F b) {  // by what there is: the greater of their negatives
    F none = zero();
    return sub(none, greater(sub(none, a), sub(none, b)));
}

void pack_int8(const Matrix& m, uint8_t* out, float* scale, const float* x, int64_t columns, int64_t row, Error& error) {
    F largest = zero();
    for (int64_t k = 0; k < m.columns; k += LANES) largest = greater(largest, size_of(load(x + k)));
    float step = greatest(largest) / 127.0f;
    step = scale[row] = step > 1e-30f ? step : 1e-30f;
    F inverse = all(1.0f / step);
    for (int64_t k = 0; k < m.columns; k += LANES) {
        int8_t codes[LANES];
        sum_codes(round(mul(load(x + k), inverse)), codes);
        for (int64_t i = 0; i < LANES; i++) {
            out[(k + i) / 4 * 64 + row % LANES * 4 + i % 4] = uint8_t(codes[i] + 128);
            if (k + i < columns) error.count(x[k + i], float(codes[i]) * step);
        }
    }
}

void pack_int4(const Matrix& m, uint8_t* out, float* scale, const float* x, int64_t columns, int64_t row, Error& error) {
    int64_t groups = m.columns / m.group, lane = row % LANES, size = 2 * LANES + 8 * m.group;
    Scratch scratch;
    float *steps = scratch.take<float>(groups), *middles = scratch.take<float>(groups);
    float widest = 0, farthest = 1e-30f;
    for (int64_t g = 0; g < groups; g++) {
        F low = load(x + g * m.group), high = low;
        for (int64_t k = LANES; k < m.group; k += LANES) {
            low = least(low, load(x + g * m.group + k));
            high = greater(high, load(x + g * m.group + k));
        }
        float bottom = -greatest(sub(zero(), low)), step = (greatest(high) - bottom) / 15.0f;
        steps[g] = step > 1e-30f ? step : 1e-30f;
        middles[g] = bottom + 8.0f * steps[g];
        widest = steps[g] > widest ? steps[g] : widest;
        farthest = std::fabs(middles[g]) > farthest ? std::fabs(middles[g]) : farthest;
    }
    float unit = scale[2 * row] = widest / 255.0f, shift = scale[2 * row + 1] = farthest / 127.0f;
    for (int64_t g = 0; g < groups; g++, out += size) {
        float code = std::ceil(steps[g] / unit), zero_code = std::nearbyint(middles[g] / shift);
        code = code < 1 ? 1 : code > 255 ? 255 : code;
        out[lane] = uint8_t(code);
        out[LANES + lane] = uint8_t(int8_t(zero_code));
        float step = code * unit, middle = zero_code * shift;
        F inverse = all(1.0f / step), away = all(middle);
        for (int64_t k = 0; k < m.group; k += LANES) {
            int8_t nibbles[LANES];
            F found = add(round(mul(sub(load(x + g * m.group + k), away), inverse)), all(8.0f));
            sum_codes(least(greater(found, zero()), all(15.0f)), nibbles);
            for (int64_t i = 0; i < LANES; i++)
                if (g * m.group + k + i < columns)
                    error.count(x[g * m.group + k + i], float(nibbles[i] - 8) * step + middle);
            for (int64_t i = 0; i < LANES; i += 8)
                for (int64_t j = 0; j < 4; j++)
                    out[2 * LANES + (k + i) / 8 * 64 + lane * 4 + j] = uint8_t(nibbles[i + j] | nibbles[i + 4 + j] << 4);
        }
    }
}

}  // namespace

// w [rows, columns] into `matrix`, whose memory is there; errors: the sum of squares, and that of the squared errors.
extern "C" void laguna_pack(const Matrix* matrix, const void* w, int64_t columns, int32_t type, double* errors, int32_t threads) {
    const Matrix& m = *matrix;
    std::vector<Error> found(m.blocks());
    int64_t size = type == WIDE ? 4 : 2;
    share(threads, m.blocks(), [&](int64_t block) {
        Scratch scratch;
        float* x = scratch.take<float>(m.columns);
        uint8_t* out = const_cast<uint8_t*>(m.data) + block * m.block_bytes();
        for (int64_t row = block * LANES; row < (block + 1) * LANES; row++) {
            std::memset(x, 0, size_t(m.columns) * 4);
            if (row < m.rows) widen((const char*)w + row * columns * size, Type(type), columns, x);
            Error none, &error = row < m.rows ? found[block] : none;
            if (m.kind == INT8) pack_int8(m, out, const_cast<float*>(m.scale), x, columns, row, error);
            else pack_int4(m, out, const_cast<float*>(m.scale), x, columns, row, error);
        }
    });
    errors[0] = errors[1] = 0;
    for (auto& error : found) errors[0] += error.squares, errors[1] += error.wrong;
}
