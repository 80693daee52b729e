/*
 * Kernels of the memory, link and peer tests. Compiled ahead into harness/vendors/nvidia/payload/vram.ptx, which the driver
 * in the guest translates for its card: no guest needs a CUDA toolkit.
 *
 *   python tests/native/ptx.py     # writes that file again; a test compares it where nvcc is installed
 *
 * Every kernel walks its memory in strides of the whole grid, 16 bytes at a time, with 64-bit indices.
 * `first` is the index of memory[0] in the whole tested memory, which lies in many allocations.
 * `words` counts words of 8 bytes; memory is aligned to 16 bytes.
 */
#define SD_FN static __device__ __forceinline__
#include "vram_patterns.h"

#define UNROLL 4

static __device__ __forceinline__ sd_u64 sd_start(void)
{
    return (sd_u64)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ sd_u64 sd_stride(void)
{
    return (sd_u64)gridDim.x * blockDim.x;
}

/* Not static: nvcc would give it a name that depends on the path of this file. */
extern "C" __device__ __noinline__ void sd_note(struct sd_report *report, sd_u64 index, sd_u64 expected,
                                                sd_u64 got)
{
    sd_u64 slot = atomicAdd(&report->mismatches, 1ull);
    atomicOr(&report->bits, expected ^ got);
    if (slot < SD_RECORDS) {
        report->faults[slot].index = index;
        report->faults[slot].expected = expected;
        report->faults[slot].got = got;
    }
}

template <unsigned KIND>
static __device__ __forceinline__ ulonglong2 sd_pair(sd_u64 index, sd_u64 argument)
{
    return make_ulonglong2(sd_value(KIND, index, argument), sd_value(KIND, index + 1, argument));
}

template <unsigned KIND>
static __device__ void sd_fill_as(sd_u64 *memory, sd_u64 words, sd_u64 first, sd_u64 argument)
{
    ulonglong2 *pairs = (ulonglong2 *)memory;
    const sd_u64 count = words / 2, stride = sd_stride();
    for (sd_u64 i = sd_start(); i < count; i += stride)
        __stcs(&pairs[i], sd_pair<KIND>(first + 2 * i, argument));
    if (words % 2 && sd_start() == 0)
        memory[words - 1] = sd_value(KIND, first + words - 1, argument);
}

template <unsigned KIND>
static __device__ __forceinline__ sd_u64 sd_compare(ulonglong2 got, sd_u64 index, sd_u64 argument,
                                                    struct sd_report *report)
{
    const ulonglong2 expected = sd_pair<KIND>(index, argument);
    if (((got.x ^ expected.x) | (got.y ^ expected.y)) != 0) {
        if (got.x != expected.x)
            sd_note(report, index, expected.x, got.x);
        if (got.y != expected.y)
            sd_note(report, index + 1, expected.y, got.y);
    }
    return got.x + got.y;
}

/* One atomic operation a warp: sums over its lanes first. */
static __device__ __forceinline__ void sd_account(struct sd_report *report, sd_u64 checked, sd_u64 sum)
{
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        checked += __shfl_down_sync(0xffffffffu, checked, lanes);
        sum += __shfl_down_sync(0xffffffffu, sum, lanes);
    }
    if (threadIdx.x % 32 == 0) {
        atomicAdd(&report->checked, checked);
        atomicAdd(&report->sum, sum);
    }
}

template <unsigned KIND, bool REFILL>
static __device__ void sd_verify_as(sd_u64 *memory, sd_u64 words, sd_u64 first, sd_u64 argument, sd_u64 next,
                                    struct sd_report *report)
{
    ulonglong2 *pairs = (ulonglong2 *)memory;
    const sd_u64 count = words / 2, stride = sd_stride();
    sd_u64 i = sd_start(), checked = 0, sum = 0;
    for (; i + (UNROLL - 1) * stride < count; i += UNROLL * stride) {
        ulonglong2 got[UNROLL];
#pragma unroll
        for (int k = 0; k < UNROLL; k++)
            got[k] = __ldcs(&pairs[i + k * stride]);
#pragma unroll
        for (int k = 0; k < UNROLL; k++) {
            const sd_u64 at = i + k * stride;
            sum += sd_compare<KIND>(got[k], first + 2 * at, argument, report);
            if (REFILL)
                __stcs(&pairs[at], sd_pair<KIND>(first + 2 * at, next));
        }
        checked += 2 * UNROLL;
    }
    for (; i < count; i += stride) {
        sum += sd_compare<KIND>(__ldcs(&pairs[i]), first + 2 * i, argument, report);
        if (REFILL)
            __stcs(&pairs[i], sd_pair<KIND>(first + 2 * i, next));
        checked += 2;
    }
    if (words % 2 && sd_start() == 0) {
        const sd_u64 at = words - 1, got = memory[at], expected = sd_value(KIND, first + at, argument);
        if (got != expected)
            sd_note(report, first + at, expected, got);
        if (REFILL)
            memory[at] = sd_value(KIND, first + at, next);
        sum += got;
        checked += 1;
    }
    sd_account(report, checked, sum);
}

/* Write the pattern. */
extern "C" __global__ void sd_fill(sd_u64 *memory, sd_u64 words, sd_u64 first, unsigned kind, sd_u64 argument)
{
    switch (kind) {
    case SD_CONSTANT: sd_fill_as<SD_CONSTANT>(memory, words, first, argument); break;
    case SD_WALKING_ONE: sd_fill_as<SD_WALKING_ONE>(memory, words, first, argument); break;
    case SD_WALKING_ZERO: sd_fill_as<SD_WALKING_ZERO>(memory, words, first, argument); break;
    case SD_ADDRESS: sd_fill_as<SD_ADDRESS>(memory, words, first, argument); break;
    case SD_RANDOM: sd_fill_as<SD_RANDOM>(memory, words, first, argument); break;
    }
}

/* Compare every word with the pattern; counts, the sum and the first faults are added to the report. */
extern "C" __global__ void sd_verify(sd_u64 *memory, sd_u64 words, sd_u64 first, unsigned kind, sd_u64 argument,
                                     struct sd_report *report)
{
    switch (kind) {
    case SD_CONSTANT: sd_verify_as<SD_CONSTANT, false>(memory, words, first, argument, 0, report); break;
    case SD_WALKING_ONE: sd_verify_as<SD_WALKING_ONE, false>(memory, words, first, argument, 0, report); break;
    case SD_WALKING_ZERO: sd_verify_as<SD_WALKING_ZERO, false>(memory, words, first, argument, 0, report); break;
    case SD_ADDRESS: sd_verify_as<SD_ADDRESS, false>(memory, words, first, argument, 0, report); break;
    case SD_RANDOM: sd_verify_as<SD_RANDOM, false>(memory, words, first, argument, 0, report); break;
    }
}

/* The step of moving inversions: compare each word, then write it again with the argument `next`. */
extern "C" __global__ void sd_verify_fill(sd_u64 *memory, sd_u64 words, sd_u64 first, unsigned kind,
                                          sd_u64 argument, sd_u64 next, struct sd_report *report)
{
    switch (kind) {
    case SD_CONSTANT: sd_verify_as<SD_CONSTANT, true>(memory, words, first, argument, next, report); break;
    case SD_WALKING_ONE: sd_verify_as<SD_WALKING_ONE, true>(memory, words, first, argument, next, report); break;
    case SD_WALKING_ZERO: sd_verify_as<SD_WALKING_ZERO, true>(memory, words, first, argument, next, report); break;
    case SD_ADDRESS: sd_verify_as<SD_ADDRESS, true>(memory, words, first, argument, next, report); break;
    case SD_RANDOM: sd_verify_as<SD_RANDOM, true>(memory, words, first, argument, next, report); break;
    }
}

/* How many words have this value: *out grows by it. */
extern "C" __global__ void sd_count(const sd_u64 *memory, sd_u64 words, sd_u64 value, sd_u64 *out)
{
    sd_u64 found = 0;
    for (sd_u64 i = sd_start(); i < words; i += sd_stride())
        found += __ldcs(&memory[i]) == value;
    for (int lanes = 16; lanes > 0; lanes /= 2)
        found += __shfl_down_sync(0xffffffffu, found, lanes);
    if (threadIdx.x % 32 == 0 && found)
        atomicAdd(out, found);
}

/* Read everything, for the rate: the sum of all words is added to *out, so nothing can be left out. */
extern "C" __global__ void sd_read(sd_u64 *memory, sd_u64 words, sd_u64 *out)
{
    const ulonglong2 *pairs = (const ulonglong2 *)memory;
    const sd_u64 count = words / 2, stride = sd_stride();
    sd_u64 i = sd_start(), sum = 0;
    for (; i + (UNROLL - 1) * stride < count; i += UNROLL * stride) {
        ulonglong2 got[UNROLL];
#pragma unroll
        for (int k = 0; k < UNROLL; k++)
            got[k] = __ldcs(&pairs[i + k * stride]);
#pragma unroll
        for (int k = 0; k < UNROLL; k++)
            sum += got[k].x + got[k].y;
    }
    for (; i < count; i += stride)
        sum += pairs[i].x + pairs[i].y;
    if (words % 2 && sd_start() == 0)
        sum += memory[words - 1];
    for (int lanes = 16; lanes > 0; lanes /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, lanes);
    if (threadIdx.x % 32 == 0)
        atomicAdd(out, sum);
}

/* Copy; either side may lie on a peer. */
extern "C" __global__ void sd_copy(sd_u64 *to, sd_u64 *from, sd_u64 words)
{
    ulonglong2 *target = (ulonglong2 *)to;
    const ulonglong2 *source = (const ulonglong2 *)from;
    const sd_u64 count = words / 2, stride = sd_stride();
    sd_u64 i = sd_start();
    for (; i + (UNROLL - 1) * stride < count; i += UNROLL * stride) {
        ulonglong2 got[UNROLL];
#pragma unroll
        for (int k = 0; k < UNROLL; k++)
            got[k] = __ldcs(&source[i + k * stride]);
#pragma unroll
        for (int k = 0; k < UNROLL; k++)
            __stcs(&target[i + k * stride], got[k]);
    }
    for (; i < count; i += stride)
        target[i] = source[i];
    if (words % 2 && sd_start() == 0)
        to[words - 1] = from[words - 1];
}

/* Plant a fault: turn over the bits of `mask` in one word. */
extern "C" __global__ void sd_flip(sd_u64 *memory, sd_u64 index, sd_u64 mask)
{
    if (sd_start() == 0)
        memory[index] ^= mask;
}
