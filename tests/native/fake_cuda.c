/*
 * A libcuda.so.1 for tests: the driver calls that harness/vendors/nvidia/payload/driver.py makes, on host memory, with
 * the kernels of harness/vendors/nvidia/kernels/vram.cu executed natively from the same vram_patterns.h. The real ctypes calls
 * go through it unchanged. It exists in the test suite only, and its cards are called "test stand-in".
 *
 * The environment variable FAKE_CUDA holds the machine, as words separated by spaces:
 *   device=0000:01:00.0      one more GPU there            total=BYTES, free=BYTES  of each GPU
 *   init=CODE                what cuInit returns           stuck=GPU:OFFSET:BIT:VALUE   a stuck bit
 *   flip=KIND:N:BIT          corrupts the N-th copy of a kind: h2d, d2h, peer0 (to GPU 0), peer1 ...
 *   fail=NAME:CODE           every call of NAME answers CODE         mode=N   the compute mode (2: no contexts)
 *   lost=N                   from launch N on every call fails (999)
 *   hang=NAME:N              the N-th call of NAME never returns
 *   nopeer                   no peer access                swallow     peer stores go nowhere
 *   store=FOLDER             memory outlives the process, as a card's does: FOLDER/0, FOLDER/1 ...
 *   dead=GPU                 that GPU has no context (46)  alias=GPU:OFFSET   the address line above OFFSET
 *                                                          is broken: memory repeats with that period
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SD_FN static inline
#include "vram_patterns.h"

#define API __attribute__((visibility("default"))) int
#define MAX 16

typedef struct { char address[32]; uint8_t *memory; uint64_t used, live, alias; int dead; } Gpu;
typedef struct { int gpu; uint64_t offset; unsigned bit, value; } Stuck;

static Gpu gpus[MAX];
static int count, init_code, current = -1, nopeer, swallow, lost_at = -1, launches, lost;
static uint64_t total = 64u << 20, free_bytes;
static Stuck stuck[4096];
static int stuck_count;
static struct { char kind[8]; int at, bit, seen; } flips[8];
static int flip_count;
static char hang_name[64];
static int hang_at = -1, hang_seen, compute_mode;
static struct { char name[64]; int code; } fails[8];
static int fail_count;
static char *ptx;

static void *memory(const char *store, int gpu)
{
    char path[300];
    if (!*store)
        return mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    snprintf(path, sizeof path, "%s/%d", store, gpu);
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, (off_t)total))
        abort();
    return mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}

static void read_machine(void)
{
    static int done;
    if (done++)
        return;
    char store[256] = "";
    char *text = strdup(getenv("FAKE_CUDA") ? getenv("FAKE_CUDA") : ""), *save = NULL;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        int a, b;
        unsigned long long offset;
        unsigned bit, value;
        char name[64];
        if (sscanf(word, "device=%31s", gpus[count].address) == 1) count++;
        else if (sscanf(word, "total=%llu", &offset) == 1) total = offset;
        else if (sscanf(word, "free=%llu", &offset) == 1) free_bytes = offset;
        else if (sscanf(word, "init=%d", &a) == 1) init_code = a;
        else if (sscanf(word, "stuck=%d:%llu:%u:%u", &a, &offset, &bit, &value) == 4)
            stuck[stuck_count++] = (Stuck){a, offset, bit, value};
        else if (sscanf(word, "flip=%7[a-z0-9]:%d:%d", name, &a, &b) == 3) {
            strcpy(flips[flip_count].kind, name);
            flips[flip_count].at = a;
            flips[flip_count++].bit = b;
        }
        else if (sscanf(word, "fail=%63[A-Za-z0-9_]:%d", fails[fail_count].name, &fails[fail_count].code) == 2)
            fail_count++;
        else if (sscanf(word, "store=%255s", store) == 1) continue;
        else if (sscanf(word, "mode=%d", &a) == 1) compute_mode = a;
        else if (sscanf(word, "lost=%d", &a) == 1) lost_at = a;
        else if (sscanf(word, "hang=%63[A-Za-z0-9_]:%d", hang_name, &a) == 2) hang_at = a;
        else if (sscanf(word, "dead=%d", &a) == 1) gpus[a].dead = 1;
        else if (sscanf(word, "alias=%d:%llu", &a, &offset) == 2) gpus[a].alias = offset;
        else if (!strcmp(word, "nopeer")) nopeer = 1;
        else if (!strcmp(word, "swallow")) swallow = 1;
        else { fprintf(stderr, "FAKE_CUDA: what is %s?\n", word); abort(); }
    }
    if (!free_bytes)
        free_bytes = total - total / 64;
    for (int i = 0; i < count; i++)
        gpus[i].memory = memory(store, i);
}

/* Every call begins here: a lost card answers nothing any more, a scripted hang never returns. */
static int enter(const char *name)
{
    read_machine();
    if (hang_at > 0 && !strcmp(name, hang_name) && ++hang_seen == hang_at)
        for (;;)
            pause();
    for (int i = 0; i < fail_count; i++)
        if (!strcmp(fails[i].name, name))
            return fails[i].code;
    return lost ? 999 : 0;
}

#define ENTER do { int bad = enter(__func__); if (bad) return bad; } while (0)

static int owner(uint64_t address)
{
    for (int i = 0; i < count; i++)
        if (address >= (uint64_t)gpus[i].memory && address < (uint64_t)gpus[i].memory + total)
            return i;
    return -1;
}

/* Tests that run in the library's own process change the machine between calls: one bit at an address. */
API fake_set_stuck(uint64_t address, unsigned bit, unsigned value)
{
    int gpu = owner(address);
    stuck_count = 1;
    stuck[0] = (Stuck){gpu, address - (uint64_t)gpus[gpu].memory, bit, value};
    return 0;
}
API fake_heal(void) { stuck_count = 0; return 0; }

/* What is written into stuck cells does not stay; with a broken address line one half shows the other. */
static void settle(uint64_t address, uint64_t bytes)
{
    int gpu = owner(address);
    if (gpu < 0)
        return;
    uint64_t from = address - (uint64_t)gpus[gpu].memory;
    for (int i = 0; i < stuck_count; i++)
        if (stuck[i].gpu == gpu && stuck[i].offset >= from && stuck[i].offset < from + bytes) {
            uint8_t *cell = gpus[gpu].memory + stuck[i].offset, mask = (uint8_t)(1u << stuck[i].bit);
            *cell = stuck[i].value ? *cell | mask : *cell & (uint8_t)~mask;
        }
    uint64_t alias = gpus[gpu].alias;
    if (alias && from + bytes > alias) {
        uint64_t start = from > alias ? from : alias;
        memcpy(gpus[gpu].memory + start - alias, gpus[gpu].memory + start, from + bytes - start);
    } else if (alias && from + alias < total) {
        uint64_t room = total - from - alias;
        memcpy(gpus[gpu].memory + from + alias, gpus[gpu].memory + from, bytes < room ? bytes : room);
    }
}

static int copy(const char *kind, void *to, const void *from, uint64_t bytes)
{
    memcpy(to, from, bytes);
    settle((uint64_t)to, bytes);
    for (int i = 0; i < flip_count; i++)
        if (!strcmp(flips[i].kind, kind) && ++flips[i].seen == flips[i].at)
            ((uint8_t *)to)[bytes / 2] ^= (uint8_t)(1u << flips[i].bit);
    return 0;
}

API cuInit(unsigned flags) { ENTER; (void)flags; return init_code ? init_code : count ? 0 : 100; }
API cuDriverGetVersion(int *v) { ENTER; *v = 12080; return 0; }
API cuGetErrorName(int code, const char **text)
{
    static char said[32];
    snprintf(said, sizeof said, "FAKE_ERROR_%d", code);
    *text = said;
    return 0;
}
API cuGetErrorString(int code, const char **text) { *text = code == 999 ? "unknown error" : "as scripted"; return 0; }
API cuDeviceGetCount(int *n) { ENTER; *n = count; return 0; }
API cuDeviceGetByPCIBusId(int *device, const char *address)
{
    ENTER;
    for (int i = 0; i < count; i++)
        if (!strcasecmp(gpus[i].address, address)) { *device = i; return 0; }
    return 101;
}
API cuDeviceGetUuid(unsigned char *uuid, int d) { ENTER; memset(uuid, 0, 15); uuid[15] = (unsigned char)(d + 1); return 0; }
API cuDeviceGetName(char *name, int n, int d) { ENTER; (void)d; snprintf(name, (size_t)n, "test stand-in"); return 0; }
API cuDeviceTotalMem_v2(size_t *bytes, int d) { ENTER; (void)d; *bytes = total; return 0; }
API cuDeviceGetAttribute(int *value, int which, int d) { ENTER; (void)d; *value = which == 16 ? 4 : which == 20 ? compute_mode : which == 75 ? 9 : 0; return 0; }
API cuDevicePrimaryCtxRetain(void **context, int d)
{
    ENTER;
    if (gpus[d].dead || compute_mode == 2)
        return 46;
    *context = (void *)(intptr_t)(d + 1);
    return 0;
}
API cuDevicePrimaryCtxRelease_v2(int d) { (void)d; return 0; }
API cuCtxSetCurrent(void *context) { ENTER; current = (int)(intptr_t)context - 1; return 0; }
API cuCtxSynchronize(void) { ENTER; return 0; }
API cuMemGetInfo_v2(size_t *left, size_t *all)
{
    ENTER;
    *left = free_bytes - gpus[current].live;
    *all = total;
    return 0;
}
API cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    ENTER;
    Gpu *gpu = &gpus[current];
    if (gpu->live + bytes > free_bytes || gpu->used + bytes > total)
        return 2;
    *address = (uint64_t)gpu->memory + gpu->used;
    gpu->used += (bytes + 511) / 512 * 512;
    gpu->live += bytes;
    return 0;
}
/* Freed memory comes back when all of it is free: nobody here needs more. */
API cuMemFree_v2(uint64_t address)
{
    ENTER;
    int gpu = owner(address);
    if (gpu < 0)
        return 1;
    gpus[gpu].live = gpus[gpu].used = 0;
    return 0;
}
API cuMemHostRegister_v2(void *memory, size_t bytes, unsigned flags)
{
    ENTER;
    (void)flags;
    return (uintptr_t)memory % 4096 || !bytes ? 1 : 0;
}
API cuMemHostUnregister(void *memory) { ENTER; (void)memory; return 0; }
API cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t n) { ENTER; return copy("small", (void *)to, from, n); }
API cuMemcpyDtoH_v2(void *to, uint64_t from, size_t n) { ENTER; return copy("small", to, (void *)from, n); }
API cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *s) { ENTER; (void)s; return copy("h2d", (void *)to, from, n); }
API cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *s) { ENTER; (void)s; return copy("d2h", to, (void *)from, n); }
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *s) { ENTER; (void)s; return copy("d2d", (void *)to, (void *)from, n); }
API cuMemcpyPeerAsync(uint64_t to, void *tc, uint64_t from, void *fc, size_t n, void *s)
{
    ENTER;
    (void)tc; (void)fc; (void)s;
    char kind[8];
    snprintf(kind, sizeof kind, "peer%d", owner(to) & 7);
    return copy(kind, (void *)to, (void *)from, n);
}
API cuMemsetD8_v2(uint64_t to, unsigned char value, size_t n) { ENTER; memset((void *)to, value, n); return 0; }
API cuStreamCreate(void **stream, unsigned flags) { ENTER; (void)flags; *stream = (void *)1; return 0; }
API cuStreamSynchronize(void *stream) { ENTER; (void)stream; return 0; }
API cuStreamDestroy_v2(void *stream) { (void)stream; return 0; }
API cuEventCreate(void **event, unsigned flags) { ENTER; (void)flags; *event = calloc(1, sizeof(double)); return 0; }
API cuEventDestroy_v2(void *event) { free(event); return 0; }
API cuEventRecord(void *event, void *stream)
{
    ENTER;
    (void)stream;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *(double *)event = (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
    return 0;
}
API cuEventSynchronize(void *event) { ENTER; (void)event; return 0; }
API cuEventElapsedTime(float *ms, void *from, void *to)
{
    ENTER;
    *ms = (float)(*(double *)to - *(double *)from);
    return 0;
}
API cuDeviceCanAccessPeer(int *can, int a, int b) { ENTER; *can = a != b && !nopeer; return 0; }
API cuCtxEnablePeerAccess(void *context, unsigned flags) { ENTER; (void)context; (void)flags; return nopeer ? 217 : 0; }

/* A function is the place of its .entry in the PTX text that was loaded: an unknown one is not found. */
API cuModuleLoadData(void **module, const void *image)
{
    ENTER;
    ptx = strdup(image);
    *module = ptx;
    return strstr(ptx, ".version") ? 0 : 218;
}
API cuModuleGetFunction(void **function, void *module, const char *name)
{
    ENTER;
    static const char *const known[] = {"sd_fill", "sd_verify", "sd_verify_fill", "sd_count", "sd_read", "sd_copy", "sd_flip"};
    char entry[64];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i], name) && strstr(module, entry)) { *function = (void *)known[i]; return 0; }
    return 500;
}

static void verify(sd_u64 *memory, sd_u64 words, sd_u64 first, unsigned kind, sd_u64 argument, struct sd_report *report)
{
    for (sd_u64 i = 0; i < words; i++) {
        sd_u64 got = memory[i], expected = sd_value(kind, first + i, argument);
        report->sum += got;
        if (got != expected) {
            if (report->mismatches < SD_RECORDS)
                report->faults[report->mismatches] = (struct sd_fault){first + i, expected, got};
            report->mismatches++;
            report->bits |= got ^ expected;
        }
    }
    report->checked += words;
}

static void fill(sd_u64 *memory, sd_u64 words, sd_u64 first, unsigned kind, sd_u64 argument)
{
    for (sd_u64 i = 0; i < words; i++)
        memory[i] = sd_value(kind, first + i, argument);
    settle((uint64_t)memory, words * 8);
}

#define P(n, type) (*(type *)parameters[n])
API cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra)
{
    ENTER;
    (void)gy; (void)gz; (void)by; (void)bz; (void)shared; (void)stream; (void)extra;
    const char *name = function;
    if (!gx || !bx)
        return 1;
    if (lost_at > 0 && ++launches >= lost_at) {
        lost = 1;
        return 999;
    }
    if (!strcmp(name, "sd_fill"))
        fill(P(0, sd_u64 *), P(1, sd_u64), P(2, sd_u64), P(3, unsigned), P(4, sd_u64));
    else if (!strcmp(name, "sd_verify"))
        verify(P(0, sd_u64 *), P(1, sd_u64), P(2, sd_u64), P(3, unsigned), P(4, sd_u64), P(5, struct sd_report *));
    else if (!strcmp(name, "sd_count")) {
        for (sd_u64 i = 0; i < P(1, sd_u64); i++)
            *P(3, sd_u64 *) += P(0, sd_u64 *)[i] == P(2, sd_u64);
    } else if (!strcmp(name, "sd_verify_fill")) {
        verify(P(0, sd_u64 *), P(1, sd_u64), P(2, sd_u64), P(3, unsigned), P(4, sd_u64), P(6, struct sd_report *));
        fill(P(0, sd_u64 *), P(1, sd_u64), P(2, sd_u64), P(3, unsigned), P(5, sd_u64));
    } else if (!strcmp(name, "sd_read")) {
        sd_u64 sum = 0;
        for (sd_u64 i = 0; i < P(1, sd_u64); i++)
            sum += P(0, sd_u64 *)[i];
        *P(2, sd_u64 *) += sum;
    } else if (!strcmp(name, "sd_copy")) {
        if (!swallow || owner((uint64_t)P(0, sd_u64 *)) == current) {
            memcpy(P(0, sd_u64 *), P(1, sd_u64 *), P(2, sd_u64) * 8);
            settle((uint64_t)P(0, sd_u64 *), P(2, sd_u64) * 8);
        }
    } else if (!strcmp(name, "sd_flip"))
        P(0, sd_u64 *)[P(1, sd_u64)] ^= P(2, sd_u64);
    return 0;
}
