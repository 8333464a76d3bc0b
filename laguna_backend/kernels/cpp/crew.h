// Many hands: tasks shared out among threads, one at a time to whoever is free.
//
// On Linux the threads are torch's own: its OpenMP runtime is in the process already and is called by name, so that no
// second pool spins beside the first. On a Mac they are the system's. Elsewhere there is one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#if defined(__APPLE__)
#include <dispatch/dispatch.h>
#elif defined(LAGUNA_OPENMP)
extern "C" void GOMP_parallel(void (*run)(void*), void* with, unsigned threads, unsigned flags);
#endif

namespace laguna {

template <class Task>
void share(int threads, int64_t tasks, const Task& task) {
    if (threads <= 1 || tasks <= 1) {
        for (int64_t i = 0; i < tasks; i++) task(i);
        return;
    }
    struct Work {
        const Task& task;
        int64_t tasks;
        std::atomic<int64_t> next{0};
        static void run(void* with) {
            auto& work = *static_cast<Work*>(with);
            for (int64_t i; (i = work.next.fetch_add(1, std::memory_order_relaxed)) < work.tasks;) work.task(i);
        }
    } work{task, tasks};
    unsigned many = unsigned(threads < tasks ? threads : tasks);
#if defined(__APPLE__)
    dispatch_apply_f(many, DISPATCH_APPLY_AUTO, &work, [](void* with, size_t) { Work::run(with); });
#elif defined(LAGUNA_OPENMP)
    GOMP_parallel(&Work::run, &work, many, 0);
#else
    (void)many;
    Work::run(&work);
#endif
}

// Memory that a thread keeps for the intermediate results of its next call. What was taken is free again when the
// Scratch that took it goes; one within another takes what is left.
class Scratch {
  public:
    Scratch() : begin(kept().top) {}
    ~Scratch() { kept().top = begin; }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    template <class T>
    T* take(int64_t count) {
        auto& all = kept();
        if (all.top == all.pieces.size()) all.pieces.emplace_back();
        auto& piece = all.pieces[all.top++];
        size_t bytes = size_t(count) * sizeof(T) + 128;  // room to align, and for a whole vector at the end
        if (piece.size() < bytes) piece.resize(bytes);
        return reinterpret_cast<T*>((uintptr_t(piece.data()) + 63) & ~uintptr_t(63));
    }

  private:
    struct Kept {
        std::vector<std::vector<char>> pieces;
        size_t top = 0;
    };
    static Kept& kept() {
        static thread_local Kept one;
        return one;
    }
    size_t begin;
};

inline void ahead(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second cache: it has room for many
constexpr int64_t AHEAD = 2048;  // bytes; with large pages half again as fast as the processor's own guess

}  // namespace laguna
