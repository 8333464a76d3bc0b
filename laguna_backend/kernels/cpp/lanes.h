// Sixteen lanes at a time, by whatever vector unit the compiler was told of: AVX-512, AVX2, NEON, or none.
//
// F is sixteen float32, I sixteen int32, B sixty-four bytes: four for each lane. Every kernel is written once, in terms
// of these; each unit has a section here, and `tests/laguna_backend/test_kernels.py` runs all that this machine bears.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define LANES_AVX512 1
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LANES_AVX2 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#define LANES_NEON 1
#include <arm_neon.h>
#endif

namespace laguna {

constexpr int LANES = 16;

inline float narrow_to_float(uint16_t half) {  // bfloat16 to float32
    uint32_t bits = uint32_t(half) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

inline uint16_t float_to_narrow(float x) {  // to the nearest bfloat16, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t((bits >> 16) | 0x40);  // what is no number stays none
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float e4m3_to_float(uint8_t code) {  // its bits in a float32's places, whose exponent counts from 127 and not 7
    uint32_t bits = uint32_t(code & 0x7f) << 20;
    float size;
    std::memcpy(&size, &bits, 4);
    size *= 0x1p120f;
    return code & 0x80 ? -size : size;
}

inline uint8_t float_to_e4m3(float x) {  // to the nearest, ties to even; beyond 448 it stays 448
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint8_t sign = uint8_t((bits >> 24) & 0x80);
    if (x != x) return sign | 0x7f;
    float size = std::fabs(x);
    if (size >= 448.0f) return sign | 0x7e;
    if (size < 0.015625f) return sign | uint8_t(std::nearbyint(size * 512.0f));
    bits &= 0x7fffffff;
    return sign | uint8_t(((bits + 0x7ffff + ((bits >> 20) & 1)) >> 20) - (120 << 3));
}

#if LANES_AVX512

struct F { __m512 v; };
struct I { __m512i v; };
struct B { __m512i v; };

inline F zero() { return {_mm512_setzero_ps()}; }
inline F all(float x) { return {_mm512_set1_ps(x)}; }
inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F load_narrow(const uint16_t* p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
// 32 bfloat16 as the sixteen at even places and the sixteen at odd ones: a shift and a mask, and nothing moves.
inline void load_narrow_pairs(const uint16_t* p, F& even, F& odd) {
    __m512i both = _mm512_loadu_si512(p);
    even.v = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    odd.v = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(int(0xffff0000))));
}
inline F load_unsigned(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)))};
}
inline F load_signed(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))};
}
inline F load_e4m3(const uint8_t* p) {  // e4m3 is a float16 whose exponent counts from 7 instead of 15
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p));
    __m256i size = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x7f)), 7);
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
    return {_mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(size, sign)), _mm512_set1_ps(256.0f))};
}
inline void store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
inline void store_narrow(uint16_t* p, F x) {
    __m512i bits = _mm512_castps_si512(x.v);
    __m512i up = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1)));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, up), 16);
    __m512i kept = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
    __mmask16 none = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(none, rounded, kept)));
}
inline F add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F greater(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F size_of(F a) { return {_mm512_abs_ps(a.v)}; }
inline float sum(F a) { return _mm512_reduce_add_ps(a.v); }
inline float greatest(F a) { return _mm512_reduce_max_ps(a.v); }
inline F round(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F times_power(F a, F n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline I all_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline int32_t sum_codes(F rounded, int8_t* p) {  // sixteen whole numbers as bytes, and their sum
    __m512i whole = _mm512_cvtps_epi32(rounded.v);
    _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(whole));
    return _mm512_reduce_add_epi32(whole);
}
inline B load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline B low(B b) { return {_mm512_and_si512(b.v, _mm512_set1_epi8(15))}; }
inline B high(B b) { return {_mm512_and_si512(_mm512_srli_epi16(b.v, 4), _mm512_set1_epi8(15))}; }
constexpr int DOT_OFFSET = 128;  // what a stored code is above its number, as far as dot_codes sees it

#if defined(__AVX512VNNI__)
inline I dot_codes(I sum, B w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    return {_mm512_dpbusd_epi32(sum.v, w.v, _mm512_set1_epi32(four))};
}
inline I dot_nibbles(I sum, B w, const int8_t* x) { return dot_codes(sum, w, x); }
#else
inline I dot_codes(I sum, B w, const int8_t* x) {  // in 16 bits: products of two bytes do not fit the 8-bit way
    int32_t four;
    std::memcpy(&four, x, 4);
    __m512i xs = _mm512_set1_epi32(four);
    __m512i x_even = _mm512_srai_epi16(_mm512_slli_epi16(xs, 8), 8), x_odd = _mm512_srai_epi16(xs, 8);
    __m512i w_even = _mm512_and_si512(w.v, _mm512_set1_epi16(0xff)), w_odd = _mm512_srli_epi16(w.v, 8);
    __m512i both = _mm512_add_epi32(_mm512_madd_epi16(w_even, x_even), _mm512_madd_epi16(w_odd, x_odd));
    return {_mm512_add_epi32(sum.v, both)};
}
inline I dot_nibbles(I sum, B w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    __m512i pairs = _mm512_maddubs_epi16(w.v, _mm512_set1_epi32(four));
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}
#endif

#if defined(__AVX512BF16__)
#define LANES_NARROW 1
// The unit multiplies bfloat16 itself: thirty-two at a time, two products to a lane.
struct N { __m512bh v; };
inline N load_thirty_two(const uint16_t* p) { return {(__m512bh)_mm512_loadu_si512(p)}; }
inline F dot_narrow(F sum, N a, N b) { return {_mm512_dpbf16_ps(sum.v, a.v, b.v)}; }
#endif

inline F sums(const F* a) {  // lane i: the sum of a[i]
    __m512 t[16];
    for (int i = 0; i < 8; i++) {  // pairs of vectors, halves of four lanes
        __m512 x = a[2 * i].v, y = a[2 * i + 1].v;
        t[i] = _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
    }
    __m512 u[4];
    for (int i = 0; i < 4; i++) {
        __m512d x = _mm512_castps_pd(t[2 * i]), y = _mm512_castps_pd(t[2 * i + 1]);
        u[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    // u[i] holds, in each of its four quarters, part of the sums of a[4i..4i+3]
    __m512 left = _mm512_add_ps(_mm512_shuffle_f32x4(u[0], u[1], 0x88), _mm512_shuffle_f32x4(u[0], u[1], 0xdd));
    __m512 right = _mm512_add_ps(_mm512_shuffle_f32x4(u[2], u[3], 0x88), _mm512_shuffle_f32x4(u[2], u[3], 0xdd));
    return {_mm512_add_ps(_mm512_shuffle_f32x4(left, right, 0x88), _mm512_shuffle_f32x4(left, right, 0xdd))};
}

#elif LANES_AVX2

struct F { __m256 a, b; };
struct I { __m256i a, b; };
struct B { __m256i a, b; };

inline F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline __m256 narrow8(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline F load_narrow(const uint16_t* p) { return {narrow8(p), narrow8(p + 8)}; }
inline void load_narrow_pairs(const uint16_t* p, F& even, F& odd) {
    __m256i a = _mm256_loadu_si256((const __m256i*)p), b = _mm256_loadu_si256((const __m256i*)(p + 16));
    __m256i upper = _mm256_set1_epi32(int(0xffff0000));
    even = {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
    odd = {_mm256_castsi256_ps(_mm256_and_si256(a, upper)), _mm256_castsi256_ps(_mm256_and_si256(b, upper))};
}
inline F load_unsigned(const uint8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p))),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8))))};
}
inline F load_signed(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8))))};
}
inline F load_e4m3(const uint8_t* p) {
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p));
    __m256i size = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x7f)), 7);
    __m256i half = _mm256_or_si256(size, _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8));
    __m256 up = _mm256_set1_ps(256.0f);
    return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), up),
            _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), up)};
}
inline void store(float* p, F x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline F add(F a, F b) { return {_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)}; }
inline F sub(F a, F b) { return {_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)}; }
inline F mul(F a, F b) { return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)}; }
inline F greater(F a, F b) { return {_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)}; }
inline F size_of(F a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.a), _mm256_andnot_ps(sign, a.b)};
}
inline float sum(F x) {
    __m256 both = _mm256_add_ps(x.a, x.b);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}
inline float greatest(F x) {
    __m256 both = _mm256_max_ps(x.a, x.b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}
inline F round(F a) {
    return {_mm256_round_ps(a.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
            _mm256_round_ps(a.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline __m256 power8(__m256 n) {  // 2^n for whole n; nothing for those too small
    __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_max_ps(n, _mm256_set1_ps(-127.0f))), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(whole, 23));
}
inline F times_power(F a, F n) { return {_mm256_mul_ps(a.a, power8(n.a)), _mm256_mul_ps(a.b, power8(n.b))}; }
inline F to_float(I a) { return {_mm256_cvtepi32_ps(a.a), _mm256_cvtepi32_ps(a.b)}; }
inline I all_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline B load_bytes(const uint8_t* p) {
    return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline B low(B b) {
    __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(b.a, mask), _mm256_and_si256(b.b, mask)};
}
inline B high(B b) {
    __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(_mm256_srli_epi16(b.a, 4), mask), _mm256_and_si256(_mm256_srli_epi16(b.b, 4), mask)};
}
constexpr int DOT_OFFSET = 128;

#if defined(__AVXVNNI__)
inline I dot_codes(I sum, B w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    __m256i xs = _mm256_set1_epi32(four);
    return {_mm256_dpbusd_avx_epi32(sum.a, w.a, xs), _mm256_dpbusd_avx_epi32(sum.b, w.b, xs)};
}
inline I dot_nibbles(I sum, B w, const int8_t* x) { return dot_codes(sum, w, x); }
#else
inline __m256i dot8(__m256i sum, __m256i w, __m256i x_even, __m256i x_odd) {
    __m256i w_even = _mm256_and_si256(w, _mm256_set1_epi16(0xff)), w_odd = _mm256_srli_epi16(w, 8);
    __m256i both = _mm256_add_epi32(_mm256_madd_epi16(w_even, x_even), _mm256_madd_epi16(w_odd, x_odd));
    return _mm256_add_epi32(sum, both);
}
inline I dot_codes(I sum, B w, const int8_t* x) {  // in 16 bits: products of two bytes do not fit the 8-bit way
    int32_t four;
    std::memcpy(&four, x, 4);
    __m256i xs = _mm256_set1_epi32(four);
    __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(xs, 8), 8), x_odd = _mm256_srai_epi16(xs, 8);
    return {dot8(sum.a, w.a, x_even, x_odd), dot8(sum.b, w.b, x_even, x_odd)};
}
inline I dot_nibbles(I sum, B w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    __m256i xs = _mm256_set1_epi32(four), one = _mm256_set1_epi16(1);
    return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(_mm256_maddubs_epi16(w.a, xs), one)),
            _mm256_add_epi32(sum.b, _mm256_madd_epi16(_mm256_maddubs_epi16(w.b, xs), one))};
}
#endif

#elif LANES_NEON

struct F { float32x4_t v[4]; };
struct I { int32x4_t v[4]; };
struct B { uint8x16_t v[4]; };

#define EACH for (int i = 0; i < 4; i++)
inline F all(float x) { F r; EACH r.v[i] = vdupq_n_f32(x); return r; }
inline F zero() { return all(0); }
inline F load(const float* p) { F r; EACH r.v[i] = vld1q_f32(p + 4 * i); return r; }
inline F load_narrow(const uint16_t* p) {
    F r;
    EACH r.v[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
    return r;
}
inline void load_narrow_pairs(const uint16_t* p, F& even, F& odd) {
    EACH {
        uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(p + 8 * i));
        even.v[i] = vreinterpretq_f32_u32(vshlq_n_u32(both, 16));
        odd.v[i] = vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000)));
    }
}
inline F load_unsigned(const uint8_t* p) {
    uint8x16_t b = vld1q_u8(p);
    uint16x8_t l = vmovl_u8(vget_low_u8(b)), h = vmovl_u8(vget_high_u8(b));
    return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(l))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(l))),
             vcvtq_f32_u32(vmovl_u16(vget_low_u16(h))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(h)))}};
}
inline F load_signed(const int8_t* p) {
    int8x16_t b = vld1q_s8(p);
    int16x8_t l = vmovl_s8(vget_low_s8(b)), h = vmovl_s8(vget_high_s8(b));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(l))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(l))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(h))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(h)))}};
}
inline F load_e4m3(const uint8_t* p) {
    uint8x16_t b = vld1q_u8(p);
    F r;
    for (int half = 0; half < 2; half++) {
        uint16x8_t code = vmovl_u8(half ? vget_high_u8(b) : vget_low_u8(b));
        uint16x8_t size = vshlq_n_u16(vandq_u16(code, vdupq_n_u16(0x7f)), 7);
        uint16x8_t sign = vshlq_n_u16(vandq_u16(code, vdupq_n_u16(0x80)), 8);
        float16x8_t f = vreinterpretq_f16_u16(vorrq_u16(size, sign));
        r.v[2 * half] = vmulq_n_f32(vcvt_f32_f16(vget_low_f16(f)), 256.0f);
        r.v[2 * half + 1] = vmulq_n_f32(vcvt_f32_f16(vget_high_f16(f)), 256.0f);
    }
    return r;
}
inline void store(float* p, F x) { EACH vst1q_f32(p + 4 * i, x.v[i]); }
inline F add(F a, F b) { F r; EACH r.v[i] = vaddq_f32(a.v[i], b.v[i]); return r; }
inline F sub(F a, F b) { F r; EACH r.v[i] = vsubq_f32(a.v[i], b.v[i]); return r; }
inline F mul(F a, F b) { F r; EACH r.v[i] = vmulq_f32(a.v[i], b.v[i]); return r; }
inline F fma(F a, F b, F c) { F r; EACH r.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]); return r; }
inline F greater(F a, F b) { F r; EACH r.v[i] = vmaxq_f32(a.v[i], b.v[i]); return r; }
inline F size_of(F a) { F r; EACH r.v[i] = vabsq_f32(a.v[i]); return r; }
inline F round(F a) { F r; EACH r.v[i] = vrndnq_f32(a.v[i]); return r; }
inline float sum(F a) { return vaddvq_f32(vaddq_f32(vaddq_f32(a.v[0], a.v[1]), vaddq_f32(a.v[2], a.v[3]))); }
inline float greatest(F a) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3]))); }
inline F times_power(F a, F n) {
    F r;
    EACH {
        int32x4_t whole = vaddq_s32(vcvtnq_s32_f32(vmaxq_f32(n.v[i], vdupq_n_f32(-127.0f))), vdupq_n_s32(127));
        r.v[i] = vmulq_f32(a.v[i], vreinterpretq_f32_s32(vshlq_n_s32(whole, 23)));
    }
    return r;
}
inline F to_float(I a) { F r; EACH r.v[i] = vcvtq_f32_s32(a.v[i]); return r; }
inline I all_int(int32_t x) { I r; EACH r.v[i] = vdupq_n_s32(x); return r; }
inline B load_bytes(const uint8_t* p) { B r; EACH r.v[i] = vld1q_u8(p + 16 * i); return r; }
inline B low(B b) { B r; EACH r.v[i] = vandq_u8(b.v[i], vdupq_n_u8(15)); return r; }
inline B high(B b) { B r; EACH r.v[i] = vshrq_n_u8(b.v[i], 4); return r; }
constexpr int DOT_OFFSET = 0;  // this unit multiplies signed bytes only: the offset is taken off on the way in
inline I dot_nibbles(I sum, B w, const int8_t* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    int8x16_t xs = vreinterpretq_s8_s32(vdupq_n_s32(four));
    EACH sum.v[i] = vdotq_s32(sum.v[i], vreinterpretq_s8_u8(w.v[i]), xs);
    return sum;
}
inline I dot_codes(I sum, B w, const int8_t* x) {
    EACH w.v[i] = veorq_u8(w.v[i], vdupq_n_u8(128));
    return dot_nibbles(sum, w, x);
}
#undef EACH

#else

struct F { float v[16]; };
struct I { int32_t v[16]; };
struct B { uint8_t v[64]; };

#define EACH for (int i = 0; i < 16; i++)
inline F all(float x) { F r; EACH r.v[i] = x; return r; }
inline F zero() { return all(0); }
inline F load(const float* p) { F r; EACH r.v[i] = p[i]; return r; }
inline F load_narrow(const uint16_t* p) { F r; EACH r.v[i] = narrow_to_float(p[i]); return r; }
inline void load_narrow_pairs(const uint16_t* p, F& even, F& odd) {
    EACH even.v[i] = narrow_to_float(p[2 * i]), odd.v[i] = narrow_to_float(p[2 * i + 1]);
}
inline F load_unsigned(const uint8_t* p) { F r; EACH r.v[i] = p[i]; return r; }
inline F load_signed(const int8_t* p) { F r; EACH r.v[i] = p[i]; return r; }
inline F load_e4m3(const uint8_t* p) { F r; EACH r.v[i] = e4m3_to_float(p[i]); return r; }
inline void store(float* p, F x) { EACH p[i] = x.v[i]; }
inline F add(F a, F b) { EACH a.v[i] += b.v[i]; return a; }
inline F sub(F a, F b) { EACH a.v[i] -= b.v[i]; return a; }
inline F mul(F a, F b) { EACH a.v[i] *= b.v[i]; return a; }
inline F fma(F a, F b, F c) { EACH c.v[i] += a.v[i] * b.v[i]; return c; }
inline F greater(F a, F b) { EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
inline F size_of(F a) { EACH a.v[i] = std::fabs(a.v[i]); return a; }
inline F round(F a) { EACH a.v[i] = std::nearbyint(a.v[i]); return a; }
inline float sum(F a) { float s = 0; EACH s += a.v[i]; return s; }
inline float greatest(F a) { float m = a.v[0]; EACH m = a.v[i] > m ? a.v[i] : m; return m; }
inline F times_power(F a, F n) { EACH a.v[i] = std::ldexp(a.v[i], int(n.v[i])); return a; }
inline F to_float(I a) { F r; EACH r.v[i] = float(a.v[i]); return r; }
inline I all_int(int32_t x) { I r; EACH r.v[i] = x; return r; }
inline B load_bytes(const uint8_t* p) { B r; std::memcpy(r.v, p, 64); return r; }
inline B low(B b) { for (auto& x : b.v) x &= 15; return b; }
inline B high(B b) { for (auto& x : b.v) x >>= 4; return b; }
constexpr int DOT_OFFSET = 128;
inline I dot_codes(I sum, B w, const int8_t* x) {
    EACH for (int k = 0; k < 4; k++) sum.v[i] += int32_t(w.v[4 * i + k]) * x[k];
    return sum;
}
inline I dot_nibbles(I sum, B w, const int8_t* x) { return dot_codes(sum, w, x); }
#undef EACH

#endif

#if !LANES_AVX512
inline F sums(const F* a) {
    float out[16];
    for (int i = 0; i < 16; i++) out[i] = sum(a[i]);
    return load(out);
}
inline void store_narrow(uint16_t* p, F x) {
    float wide[16];
    store(wide, x);
    for (int i = 0; i < 16; i++) p[i] = float_to_narrow(wide[i]);
}
inline int32_t sum_codes(F rounded, int8_t* p) {
    float wide[16];
    int32_t total = 0;
    store(wide, rounded);
    for (int i = 0; i < 16; i++) total += p[i] = int8_t(wide[i]);
    return total;
}
#endif

// e^x for x <= 0, within a few units of the last place: 2^n times a polynomial of what is left over.
inline F exponential(F x) {
    F n = round(mul(greater(x, all(-120.0f)), all(1.44269504f)));
    F r = fma(n, all(-0.693359375f), greater(x, all(-120.0f)));
    r = fma(n, all(2.12194440e-4f), r);
    F p = all(1.9875691500e-4f);
    p = fma(p, r, all(1.3981999507e-3f));
    p = fma(p, r, all(8.3334519073e-3f));
    p = fma(p, r, all(4.1665795894e-2f));
    p = fma(p, r, all(1.6666665459e-1f));
    p = fma(p, r, all(5.0000001201e-1f));
    p = add(fma(mul(p, r), r, r), all(1.0f));
    return times_power(p, n);
}

}  // namespace laguna
