/*
 * The kernels' own source compiled for the processor: one thread at a time, each a warp of its own, so that
 * the walking over memory, the tails and the reports are executed as they stand in vram.cu. (Sums over the
 * lanes of a warp are the one thing that this cannot show.)
 */
#include <cstdio>
#include <cstring>
#include <vector>

struct alignas(16) ulonglong2 { unsigned long long x, y; };
struct Dim { unsigned x; };
static Dim blockIdx, blockDim = {1}, gridDim, threadIdx;
static ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
template <class T> static T __ldcs(const T *at) { return *at; }
template <class T> static void __stcs(T *at, T value) { *at = value; }
static unsigned long long __shfl_down_sync(unsigned, unsigned long long, int) { return 0; }
static unsigned long long atomicAdd(unsigned long long *at, unsigned long long by) { auto old = *at; *at += by; return old; }
static unsigned long long atomicOr(unsigned long long *at, unsigned long long by) { auto old = *at; *at |= by; return old; }
#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__
#include "vram.cu"

template <class... A> static void launch(unsigned blocks, void (*kernel)(A...), A... arguments)
{
    gridDim.x = blocks;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        kernel(arguments...);
}

static int problems;
#define MUST(what) do { if (!(what)) { problems++; std::printf("%s: kind %u, %llu words, %u blocks\n", #what, kind, words, blocks); } } while (0)

static void one(unsigned kind, sd_u64 words, unsigned blocks)
{
    const sd_u64 first = (1ull << 33) + 6, argument = kind < 3 ? 5 : 0x123456789abcdefull, next = ~argument;
    const sd_u64 guard = 0x5a5a5a5a5a5a5a5aull;
    std::vector<ulonglong2> held(words / 2 + 2), other(words / 2 + 2);
    sd_u64 *memory = &held[0].x, *copy = &other[0].x;
    sd_report report;
    memory[words] = copy[words] = guard;

    launch(blocks, sd_fill, memory, words, first, kind, argument);
    sd_u64 sum = 0, wrong = 0;
    for (sd_u64 i = 0; i < words; i++) {
        sum += memory[i];
        wrong += memory[i] != sd_value(kind, first + i, argument);
    }
    MUST(wrong == 0 && memory[words] == guard);

    std::memset(&report, 0, sizeof report);
    launch(blocks, sd_verify, memory, words, first, kind, argument, &report);
    MUST(report.checked == words && report.sum == sum && report.mismatches == 0 && report.bits == 0);

    sd_u64 out = 0;
    launch(blocks, sd_read, memory, words, &out);
    MUST(out == sum);
    launch(blocks, sd_copy, copy, memory, words);
    MUST(std::memcmp(copy, memory, words * 8) == 0 && copy[words] == guard);

    for (sd_u64 at : {(sd_u64)0, words / 2, words - 1}) {
        launch(blocks, sd_flip, memory, at, (sd_u64)1 << 37);
        std::memset(&report, 0, sizeof report);
        launch(blocks, sd_verify, memory, words, first, kind, argument, &report);
        MUST(report.checked == words && report.mismatches == 1 && report.bits == (sd_u64)1 << 37);
        MUST(report.faults[0].index == first + at && report.faults[0].got == memory[at]);
        MUST(report.faults[0].expected == sd_value(kind, first + at, argument));
        launch(blocks, sd_flip, memory, at, (sd_u64)1 << 37);
    }

    std::memset(&report, 0, sizeof report);
    launch(blocks, sd_verify_fill, memory, words, first, kind, argument, next, &report);
    MUST(report.checked == words && report.sum == sum && report.mismatches == 0);
    std::memset(&report, 0, sizeof report);
    launch(blocks, sd_verify, memory, words, first, kind, next, &report);
    MUST(report.checked == words && report.mismatches == 0 && memory[words] == guard);

    sd_u64 counted = 0;
    launch<const sd_u64 *, sd_u64, sd_u64, sd_u64 *>(blocks, sd_count, memory, words, memory[words - 1], &counted);
    sd_u64 same = 0;
    for (sd_u64 i = 0; i < words; i++)
        same += memory[i] == memory[words - 1];
    MUST(counted == same && same > 0);

    std::memset(memory, 0x11, words * 8);
    std::memset(&report, 0, sizeof report);
    launch(blocks, sd_verify, memory, words, first, kind, argument, &report);
    MUST(report.mismatches == words);
}

int main()
{
    for (unsigned kind = 0; kind < SD_KINDS; kind++)
        for (sd_u64 words : {1, 2, 3, 7, 8, 64, 65, 1000, 1001, 4096})
            for (unsigned blocks : {1, 2, 3, 7, 64, 300})
                one(kind, words, blocks);
    return problems != 0;
}
