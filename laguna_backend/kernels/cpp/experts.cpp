// The feed-forward of a few rows: dense, or a router, the experts that it picks and the shared one, in one call.
#include <algorithm>

#include "calls.h"

using namespace laguna;

namespace {

constexpr int64_t TOGETHER = 4;  // blocks of gate, then as many of up: long reads rather than many

struct Job {  // an expert and the rows that go through it
    Matrix gate_up, down;
    std::vector<int32_t> rows;      // of the input
    std::vector<float> weights;     // what their outputs count
    int32_t first;                  // of its lines of intermediate results
};

float score_of(float logit, const Mixture& m) {
    if (m.softcap > 0) logit = std::tanh(logit / m.softcap) * m.softcap;
    if (!m.softplus) return 1.0f / (1.0f + std::exp(-logit));
    return std::sqrt(logit > 20.0f ? logit : std::log1p(std::exp(logit)));
}

// The experts of one row, the best first, and what each counts. The bias chooses and does not weigh.
void choose(const Mixture& m, const float* logits, Type type, int32_t* chosen, float* weights) {
    Scratch scratch;
    float* scores = scratch.take<float>(m.experts);
    float* ranks = scratch.take<float>(m.experts);
    for (int32_t e = 0; e < m.experts; e++) {
        scores[e] = score_of(rounded(logits[e], type), m);
        ranks[e] = scores[e] + read(m.bias, type, e);
    }
    float total = 0;
    for (int32_t k = 0; k < m.top_k; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < m.experts; e++)
            if (best < 0 || ranks[e] > ranks[best]) best = e;
        chosen[k] = best;
        weights[k] = scores[best];
        total += scores[best];
        ranks[best] = -INFINITY;
    }
    for (int32_t k = 0; k < m.top_k; k++) weights[k] = rounded(weights[k] / total, type) * m.scale;
}

std::vector<Job> jobs_of(
    const Mixture& m, const float* normed, int64_t hidden, int64_t count, Type type, int threads, Scratch& scratch) {
    std::vector<Job> jobs;
    if (m.experts) {
        Input input(m.router, count, scratch);
        std::vector<int32_t> which(count);
        float* logits = scratch.take<float>(count * m.router.blocks() * LANES);
        for (int64_t t = 0; t < count; t++) which[t] = int32_t(t), input.set(m.router, t, normed + t * hidden, hidden);
        share(threads, m.router.blocks(), [&](int64_t block) {
            Scratch own;
            float* found = own.take<float>(count * LANES);
            sixteen(m.router, block * LANES, input, which.data(), count, found);
            for (int64_t t = 0; t < count; t++)
                std::memcpy(logits + (t * m.router.blocks() + block) * LANES, found + t * LANES, sizeof(float) * LANES);
        });
        std::vector<int32_t> place(m.experts, -1), chosen(m.top_k);
        std::vector<float> weights(m.top_k);
        for (int64_t t = 0; t < count; t++) {
            choose(m, logits + t * m.router.blocks() * LANES, type, chosen.data(), weights.data());
            for (int32_t k = 0; k < m.top_k; k++) {
                int32_t e = chosen[k];
                if (place[e] < 0) {
                    place[e] = int32_t(jobs.size());
                    jobs.push_back({m.gate_up.at(e), m.down.at(e), {}, {}, 0});
                }
                jobs[place[e]].rows.push_back(int32_t(t));
                jobs[place[e]].weights.push_back(weights[k]);
            }
        }
    }
    if (m.shared_gate_up.rows) {
        jobs.push_back({m.shared_gate_up, m.shared_down, {}, {}, 0});
        for (int64_t t = 0; t < count; t++) jobs.back().rows.push_back(int32_t(t)), jobs.back().weights.push_back(1.0f);
    }
    int32_t lines = 0;
    for (auto& job : jobs) job.first = lines, lines += int32_t(job.rows.size());
    return jobs;
}

}  // namespace

// out [count, hidden] = x + feed_forward(norm(x)), for x [count, hidden].
extern "C" void laguna_feed_forward(
    const Mixture* mixture, const void* x, int64_t hidden, int64_t count, int32_t type_, const void* weight, float eps,
    void* out, int32_t threads) {
    const Mixture& m = *mixture;
    Type type = Type(type_);
    int64_t size = type == WIDE ? 4 : 2;
    Scratch scratch;
    float* normed = scratch.take<float>(count * hidden);
    share(count > FEW ? threads : 1, count, [&](int64_t t) {
        widen((const char*)x + t * hidden * size, type, hidden, normed + t * hidden);
        normalise(normed + t * hidden, hidden, weight, eps, type);
    });
    std::vector<Job> jobs = jobs_of(m, normed, hidden, count, type, threads, scratch);

    // gate and up, by expert and pieces of sixteen: silu(gate) * up
    const Matrix& any = m.experts ? m.gate_up : m.shared_gate_up;
    Input input(any, count, scratch);
    share(count > FEW ? threads : 1, count, [&](int64_t t) { input.set(any, t, normed + t * hidden, hidden); });
    int64_t inner = any.rows / 2, lines = jobs.back().first + int64_t(jobs.back().rows.size());
    int64_t widest = inner;
    for (auto& job : jobs) widest = std::max(widest, job.gate_up.rows / 2);
    float* held = scratch.take<float>(lines * widest);
    std::vector<std::pair<int32_t, int64_t>> pieces;
    for (size_t j = 0; j < jobs.size(); j++) {
        int64_t blocks = (jobs[j].gate_up.rows / 2 + LANES - 1) / LANES;
        for (int64_t block = 0; block < blocks; block += TOGETHER) pieces.push_back({int32_t(j), block});
    }
    share(threads, int64_t(pieces.size()), [&](int64_t piece) {
        Scratch own;
        const Job& job = jobs[pieces[piece].first];
        int64_t rows = int64_t(job.rows.size()), own_inner = job.gate_up.rows / 2;
        int64_t begin = pieces[piece].second, blocks = (own_inner + LANES - 1) / LANES, end = std::min(begin + TOGETHER, blocks);
        float* gate = own.take<float>(rows * LANES * TOGETHER);
        float* up = own.take<float>(rows * LANES);
        Matrix gates = job.gate_up;
        gates.rows = own_inner;  // of which the last sixteen may be fewer
        for (int64_t block = begin; block < end; block++)
            sixteen(gates, block * LANES, input, job.rows.data(), rows, gate + (block - begin) * rows * LANES);
        for (int64_t block = begin; block < end; block++) {
            int64_t many = std::min<int64_t>(LANES, own_inner - block * LANES);
            sixteen(job.gate_up, own_inner + block * LANES, input, job.rows.data(), rows, up);
            const float* g = gate + (block - begin) * rows * LANES;
            for (int64_t t = 0; t < rows; t++)
                for (int64_t i = 0; i < many; i++) {
                    float turned = g[t * LANES + i] / (1.0f + std::exp(-g[t * LANES + i]));
                    held[(job.first + t) * widest + block * LANES + i] = turned * up[t * LANES + i];
                }
        }
    });

    // down, by pieces of the output, each expert's in order: the sum is the same whoever computes it
    std::vector<Input> downs;
    for (auto& job : jobs) downs.emplace_back(job.down, int64_t(job.rows.size()), scratch);
    share(count > FEW ? threads : 1, int64_t(jobs.size()), [&](int64_t j) {
        const Job& job = jobs[j];
        for (size_t t = 0; t < job.rows.size(); t++)
            downs[j].set(job.down, int64_t(t), held + (job.first + int64_t(t)) * widest, job.gate_up.rows / 2);
    });
    std::vector<int32_t> every(count);
    for (int64_t t = 0; t < count; t++) every[t] = int32_t(t);
    int64_t blocks = (hidden + LANES - 1) / LANES, each = std::max<int64_t>(1, std::min<int64_t>(8, blocks / (4 * threads)));
    share(threads, (blocks + each - 1) / each, [&](int64_t task) {
        Scratch own;
        float* total = own.take<float>(each * count * LANES);
        float* found = own.take<float>(count * LANES);
        std::fill(total, total + each * count * LANES, 0.0f);
        int64_t begin = task * each, end = std::min(begin + each, blocks);
        for (size_t j = 0; j < jobs.size(); j++)
            for (int64_t block = begin; block < end; block++) {
                const Job& job = jobs[j];
                sixteen(job.down, block * LANES, downs[j], every.data(), int64_t(job.rows.size()), found);
                for (size_t t = 0; t < job.rows.size(); t++) {
                    float* sum = total + ((block - begin) * count + job.rows[t]) * LANES;
                    store(sum, fma(all(job.weights[t]), load(found + t * LANES), load(sum)));
                }
            }
        for (int64_t block = begin; block < end; block++)
            for (int64_t t = 0; t < count; t++)
                for (int64_t i = 0; i < std::min<int64_t>(LANES, hidden - block * LANES); i++) {
                    int64_t at = t * hidden + block * LANES + i;
                    write(out, type, at, read(x, type, at) + total[((block - begin) * count + t) * LANES + i]);
                }
    });
}
