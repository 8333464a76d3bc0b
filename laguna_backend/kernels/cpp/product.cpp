// A few rows through one matrix: the norm before it and the sum after it included.
#include "matrix.h"

using namespace laguna;

// out [count, rows] = (residual +) norm(x [count, inputs]) times the matrix's rows. `weight` 0: no norm; `residual` 0: none.
extern "C" void laguna_product(
    const Matrix* matrix, const void* x, int64_t inputs, int64_t count, int32_t type_, const void* weight, float eps,
    const void* residual, void* out, int32_t threads) {
    const Matrix& m = *matrix;
    Type type = Type(type_);
    Scratch scratch;
    Input input(m, count, scratch);
    int32_t* which = scratch.take<int32_t>(count);
    int64_t size = type == WIDE ? 4 : 2;
    share(count > FEW ? threads : 1, count, [&](int64_t t) {
        Scratch own;
        float* row = own.take<float>(m.columns > inputs ? m.columns : inputs);
        which[t] = int32_t(t);
        widen((const char*)x + t * inputs * size, type, inputs, row);
        if (weight) normalise(row, inputs, weight, eps, type);
        input.set(m, t, row, inputs);
    });
    int64_t blocks = m.blocks(), each = blocks_a_task(m, blocks, threads);
    share(threads, (blocks + each - 1) / each, [&](int64_t task) {
        Scratch own;
        float* found = own.take<float>(count * LANES);
        int64_t end = (task + 1) * each < blocks ? (task + 1) * each : blocks;
        for (int64_t block = task * each; block < end; block++) {
            int64_t first = block * LANES, many = m.rows - first < LANES ? m.rows - first : LANES;
            sixteen(m, first, input, which, count, found);
            for (int64_t t = 0; t < count; t++)
                for (int64_t i = 0; i < many; i++) {
                    int64_t at = t * m.rows + first + i;
                    write(out, type, at, found[t * LANES + i] + (residual ? read(residual, type, at) : 0.0f));
                }
        }
    });
}
