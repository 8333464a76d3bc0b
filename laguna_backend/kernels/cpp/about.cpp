// What this library is: the sizes of its structs, and the vector unit that it was compiled for.
#include "calls.h"

using namespace laguna;

extern "C" void laguna_sizes(int64_t* out) {
    out[0] = sizeof(Matrix), out[1] = sizeof(Mixture), out[2] = sizeof(Past), out[3] = sizeof(Shape);
}

extern "C" const char* laguna_unit() {
#if LANES_NARROW && defined(__AVX512VNNI__)
    return "AVX-512 with VNNI and BF16";
#elif LANES_AVX512 && defined(__AVX512VNNI__)
    return "AVX-512 with VNNI";
#elif LANES_AVX512
    return "AVX-512";
#elif LANES_AVX2 && defined(__AVXVNNI__)
    return "AVX2 with VNNI";
#elif LANES_AVX2
    return "AVX2";
#elif LANES_NEON
    return "NEON";
#else
    return "no vector unit";
#endif
}
