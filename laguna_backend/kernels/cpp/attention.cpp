// Attention of a few new tokens of one sequence over its cache: norms, rotary embedding, storing, one pass with a running
// softmax, and the gate. A key is read once for all the heads that share it; FP8 is widened on the way, never in memory.
#include <algorithm>

#include "calls.h"

using namespace laguna;

namespace {

constexpr int64_t KEYS = 32;  // of one block: their scores and their widened values stay in the first cache

int64_t bytes_of(int32_t storage) { return storage == KEEP32 ? 4 : storage == KEEP16 ? 2 : 1; }

void turn(float* x, const void* cos, const void* sin, int64_t rotary, int64_t row, Type type) {
    int64_t half = rotary / 2;
    for (int64_t i = 0; i < half; i++) {
        float c = read(cos, type, row * rotary + i), s = read(sin, type, row * rotary + i);
        float a = x[i], b = x[half + i];
        x[i] = rounded(a * c - b * s, type);
        x[half + i] = rounded(b * c + a * s, type);
    }
}

void keep(const float* x, uint8_t* rows, float* scales, float scale, const Past& past, int64_t head, int64_t slot) {
    int64_t dim = past.dim, at = head * past.capacity + slot;
    uint8_t* out = rows + at * dim * bytes_of(past.storage);
    if (past.storage != KEEP8) return narrow(x, past.storage == KEEP32 ? WIDE : NARROW, dim, out);
    if (scales) {
        float largest = 0;
        for (int64_t i = 0; i < dim; i++) largest = std::max(largest, std::fabs(x[i]));
        scale = scales[at] = std::max(largest / 448.0f, 1e-12f);
    }
    for (int64_t i = 0; i < dim; i++) out[i] = float_to_e4m3(x[i] / scale);
}

template <int STORAGE>
F widened(const uint8_t* row, int64_t i) {
    if (STORAGE == KEEP32) return load((const float*)row + i);
    if (STORAGE == KEEP16) return load_narrow((const uint16_t*)row + i);
    return load_e4m3(row + i);
}

// scores[n * KEYS + i] = q[n] * key i, for the keys [KEYS, dim], of which `count` are there.
void score(const float* keys, int64_t count, const float* q, int64_t many, int64_t dim, float* scores) {
    if constexpr (WIDTH == LANES) {  // registers for sixteen sums at a time
        for (int64_t key = 0; key < count; key += LANES)
            for (int64_t n = 0; n < many; n++) {
                F found[LANES];
                for (auto& f : found) f = zero();
                for (int64_t d = 0; d < dim; d += LANES) {
                    F x = load(q + n * dim + d);
                    for (int64_t i = 0; i < LANES; i++) found[i] = fma(x, load(keys + (key + i) * dim + d), found[i]);
                }
                store(scores + n * KEYS + key, sums(found));
            }
    } else {
        std::memset(scores, 0, size_t(many) * KEYS * sizeof(float));
        for (int64_t n = 0; n < many; n += TILE_INPUTS) {
            const float* rows[TILE_INPUTS];
            int64_t together = std::min<int64_t>(TILE_INPUTS, many - n);
            for (int64_t t = 0; t < together; t++) rows[t] = q + (n + t) * dim;
            for (int64_t key = 0; key < count; key += TILE_ROWS)
                tile_of(together, keys + key * dim, dim, rows, dim, scores + n * KEYS + key, KEYS);
        }
    }
}

// out[n * dim + i] += the weighted values, sixteen dimensions of them, of T queries.
template <int T = TILE_INPUTS>
void weigh(int64_t together, const F* values, int64_t count, const float* scores, int64_t dim, float* out) {
    if constexpr (T > 1) {
        if (together < T) return weigh<T - 1>(together, values, count, scores, dim, out);
    }
    F sums_[T];
    for (int t = 0; t < T; t++) sums_[t] = load(out + t * dim);
    for (int64_t i = 0; i < count; i++) {
        F value = values[i];
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) sums_[t] = fma(value, all(scores[t * KEYS + i]), sums_[t]);
    }
    for (int t = 0; t < T; t++) store(out + t * dim, sums_[t]);
}

struct Sum {  // of one query, as far as it has come
    float most, total;
};

// Some keys, at slots `slot` to `slot` + count, for `many` queries q [many, dim], which are scaled already.
template <int STORAGE>
void block(const Past& past, int64_t head, int64_t slot, int64_t count, const float* q, int64_t many, Sum* sums_, float* out) {
    int64_t dim = past.dim, row = dim * bytes_of(STORAGE), at = head * past.capacity + slot;
    const uint8_t *k = past.k + at * row, *v = past.v + at * row;
    float weights[KEYS];
    Scratch scratch;
    float* wide = scratch.take<float>(KEYS * dim);
    float* scores = scratch.take<float>(many * KEYS);
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < dim; d += LANES) store(wide + i * dim + d, widened<STORAGE>(k + i * row, d));
    score(wide, count, q, many, dim, scores);
    for (int64_t i = 0; i < KEYS; i++) weights[i] = past.storage == KEEP8 ? (past.k_scales && i < count ? past.k_scales[at + i] : past.k_scale) : 1.0f;
    for (int64_t n = 0; n < many; n++) {
        float* s = scores + n * KEYS;
        for (int64_t i = 0; i < KEYS; i++) s[i] = i < count ? s[i] * weights[i] : -INFINITY;
        float most = std::max(sums_[n].most, greatest(greater(load(s), load(s + LANES))));
        F a = exponential(sub(load(s), all(most))), b = exponential(sub(load(s + LANES), all(most)));
        store(s, a), store(s + LANES, b);
        for (int64_t i = count; i < KEYS; i++) s[i] = 0;
        float fade = std::exp(sums_[n].most - most);
        sums_[n].total = sums_[n].total * fade + sum(add(load(s), load(s + LANES)));
        sums_[n].most = most;
        if (fade != 1.0f)
            for (int64_t d = 0; d < dim; d += LANES) store(out + n * dim + d, mul(load(out + n * dim + d), all(fade)));
    }
    if (past.storage == KEEP8) {
        for (int64_t i = 0; i < count; i++) weights[i] = past.v_scales ? past.v_scales[at + i] : past.v_scale;
        for (int64_t n = 0; n < many; n++)
            for (int64_t i = 0; i < count; i++) scores[n * KEYS + i] *= weights[i];
    }
    for (int64_t d = 0; d < dim; d += LANES) {
        F values[KEYS];
        for (int64_t i = 0; i < count; i++) values[i] = widened<STORAGE>(v + i * row, d);
        for (int64_t n = 0; n < many; n += TILE_INPUTS)
            weigh(std::min<int64_t>(TILE_INPUTS, many - n), values, count, scores + n * KEYS, dim, out + n * dim + d);
    }
}

// The positions begin to end of the past, block by block, without crossing the end of the ring within one.
void pass(const Past& past, int64_t head, int64_t begin, int64_t end, const float* q, int64_t many, Sum* sums_, float* out) {
    for (int64_t n = 0; n < many; n++) sums_[n] = {-INFINITY, 0};
    std::fill(out, out + many * past.dim, 0.0f);
    while (begin < end) {
        int64_t slot = begin % past.capacity;
        int64_t count = std::min({KEYS, end - begin, past.capacity - slot});
        int64_t row = past.dim * bytes_of(past.storage), at = (head * past.capacity + slot + count) * row;
        for (int64_t i = 0; i < KEYS * row; i += 64) ahead(past.k + at + i), ahead(past.v + at + i);
        switch (past.storage) {
            case KEEP32: block<KEEP32>(past, head, slot, count, q, many, sums_, out); break;
            case KEEP16: block<KEEP16>(past, head, slot, count, q, many, sums_, out); break;
            default: block<KEEP8>(past, head, slot, count, q, many, sums_, out);
        }
        begin += count;
    }
}

}  // namespace

// inputs [count, (heads + 2 kv_heads) * dim + gates]: what a layer's input matrix gave. Out [count, heads * dim].
// The first of the tokens is at `position`; the cache has room for all of them.
extern "C" void laguna_attend(
    const Past* past_, const Shape* shape_, const void* inputs, int64_t count, int64_t position, int32_t type_, void* out,
    int32_t threads) {
    const Past& past = *past_;
    const Shape& shape = *shape_;
    Type type = Type(type_);
    int64_t dim = past.dim, kv = past.kv_heads, heads = shape.heads, group = heads / kv;
    int64_t width = (heads + 2 * kv) * dim + shape.gates, size = type == WIDE ? 4 : 2;
    Scratch scratch;
    float* queries = scratch.take<float>(count * heads * dim);  // [kv, count, group, dim]

    auto prepare = [&](int64_t head, int64_t t) {  // one token's queries of one key-value head, and its key and value
        Scratch own;
        float* x = own.take<float>(dim);
        const char* row = (const char*)inputs + t * width * size;
        int64_t slot = (position + t) % past.capacity;
        widen(row + (heads + head) * dim * size, type, dim, x);
        normalise(x, dim, shape.k_norm, shape.eps, type);
        turn(x, shape.cos, shape.sin, shape.rotary, t, type);
        keep(x, past.k, past.k_scales, past.k_scale, past, head, slot);
        widen(row + (heads + kv + head) * dim * size, type, dim, x);
        keep(x, past.v, past.v_scales, past.v_scale, past, head, slot);
        for (int64_t n = 0; n < group; n++) {
            float* q = queries + ((head * count + t) * group + n) * dim;
            widen(row + (head * group + n) * dim * size, type, dim, q);
            normalise(q, dim, shape.q_norm, shape.eps, type);
            turn(q, shape.cos, shape.sin, shape.rotary, t, type);
            float scale = 1.0f / std::sqrt(float(dim));
            for (int64_t d = 0; d < dim; d++) q[d] *= scale;
        }
    };
    auto finish = [&](int64_t head, int64_t t, const Sum* sums_, const float* found) {  // the gate, and out
        const char* gate = (const char*)inputs + (t * width + (heads + 2 * kv) * dim) * size;
        for (int64_t n = 0; n < group; n++)
            for (int64_t d = 0; d < dim; d++) {
                int64_t at = (head * group + n) * dim + d;
                float g = read(gate, type, shape.gates == heads ? head * group + n : at);
                g = rounded(g > 20.0f ? g : std::log1p(std::exp(g)), type);
                write(out, type, t * heads * dim + at, rounded(found[n * dim + d] / sums_[n].total, type) * g);
            }
    };
    auto first_seen = [&](int64_t t) { return past.window ? std::max<int64_t>(0, position + t + 1 - past.window) : 0; };

    int64_t seen = std::min(position + count, past.capacity);
    int64_t splits = threads <= kv ? 1 : std::min<int64_t>((threads + kv - 1) / kv, (seen + 511) / 512);
    if (splits <= 1) {
        share(threads, kv, [&](int64_t head) {
            Scratch own;
            Sum* sums_ = own.take<Sum>(group);
            float* found = own.take<float>(group * dim);
            for (int64_t t = 0; t < count; t++) {  // one by one: in a ring each takes the place of one not seen any more
                prepare(head, t);
                const float* q = queries + (head * count + t) * group * dim;
                pass(past, head, first_seen(t), position + t + 1, q, group, sums_, found);
                finish(head, t, sums_, found);
            }
        });
        return;
    }
    Sum* sums_ = scratch.take<Sum>(splits * heads);
    float* parts = scratch.take<float>(splits * heads * dim);
    for (int64_t t = 0; t < count; t++) {  // more threads than heads: each takes a stretch of a head's past
        share(threads, kv, [&](int64_t head) { prepare(head, t); });
        int64_t begin = first_seen(t), each = (position + t + 1 - begin + splits - 1) / splits;
        share(threads, kv * splits, [&](int64_t task) {
            int64_t head = task / splits, from = begin + task % splits * each;
            int64_t until = std::min(from + each, position + t + 1);
            const float* q = queries + (head * count + t) * group * dim;
            pass(past, head, from, until, q, group, sums_ + task * group, parts + task * group * dim);
        });
        for (int64_t head = 0; head < kv; head++) {
            Sum* mine = sums_ + head * splits * group;
            float* found = parts + head * splits * group * dim;
            for (int64_t n = 0; n < group; n++) {
                float most = -INFINITY, total = 0;
                for (int64_t s = 0; s < splits; s++) most = std::max(most, mine[s * group + n].most);
                for (int64_t d = 0; d < dim; d++) {
                    float x = 0;
                    for (int64_t s = 0; s < splits; s++)
                        if (mine[s * group + n].total > 0)
                            x += found[(s * group + n) * dim + d] * std::exp(mine[s * group + n].most - most);
                    found[n * dim + d] = x;
                }
                for (int64_t s = 0; s < splits; s++)
                    if (mine[s * group + n].total > 0) total += mine[s * group + n].total * std::exp(mine[s * group + n].most - most);
                mine[n] = {most, total};
            }
            finish(head, t, mine, found);
        }
    }
}
