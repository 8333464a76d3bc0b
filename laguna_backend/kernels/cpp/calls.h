// What the kernels are called with, beside plain addresses; `native.py` repeats these structs field by field.
#pragma once

#include "matrix.h"

namespace laguna {

struct Mixture {
    Matrix router;         // [experts, hidden], plain
    const void* bias;      // [experts], in the type of the rows
    Matrix gate_up, down;  // stacks of experts, gate's rows first
    Matrix shared_gate_up, shared_down;  // the shared expert, or all that a dense layer has
    int32_t experts, top_k, softplus;    // no experts: dense
    float softcap, scale;
};

enum Storage : int32_t { KEEP32, KEEP16, KEEP8 };

struct Past {  // one layer's keys and values [kv_heads, capacity, dim]; the token at position p lies at p % capacity
    uint8_t *k, *v;
    float *k_scales, *v_scales;  // FP8: [kv_heads, capacity], or 0 where each part has one scale
    float k_scale, v_scale;
    int32_t storage, kv_heads;
    int64_t dim, capacity, window;  // window 0: everything is seen
};

struct Shape {
    int64_t heads, gates, rotary;  // query heads; gate numbers of a token; dimensions that turn
    const void *q_norm, *k_norm, *cos, *sin;
    float eps;
};

}  // namespace laguna
