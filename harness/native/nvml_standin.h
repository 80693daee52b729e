/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the NVML stand-in share: a scenario as read, the GPUs' state at one moment, and the shape of
 * an exported function.
 */
#ifndef NVML_STANDIN_H
#define NVML_STANDIN_H

#include <stdint.h>

#define MAX_GPUS 16
#define MAX_FAULTS 64
#define MAX_LOADS 256
#define MAX_LINKS 18
#define LOCATIONS 8 /* of memory errors, nvmlMemoryLocation_t */

/* nvmlReturn_t (nvml.h), as far as this library gives them. */
enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    OPERATING_SYSTEM = 17,
    VERSION_MISMATCH = 18,
    ARGUMENT_VERSION_MISMATCH = 25,
};

enum kind {
    THROTTLE, ECC, REMAP, RETIRED, XID, LOG, VANISH, HANG, FREEZE, UNSUPPORTED, FAILING, LINK_GEN, LINK_WIDTH,
    REPLAY, HOT, MEMORY_HOT, NVLINK, NVLINK_DOWN, PROCESS, KINDS
};

struct fault {
    enum kind kind;
    int gpu;           /* -1: all of them */
    double at, until;  /* seconds since the first nvmlInit of this scenario; until < 0: for good */
    double value, rate;
    char what[160];
};

struct card {
    char name[96], uuid[96], serial[30], vbios[32], inforom[16], part[80];
    unsigned domain, bus, device;
    double vendor, model, subsystem_vendor, subsystem;
    double memory_bytes, power_idle, power_peak, power_limit, power_default, power_min, power_max;
    double ambient, rise, lag, memory_rise, slowdown, shutdown, gpu_max, memory_max;
    double sm_idle, sm_peak, memory_clock_idle, memory_clock_peak, pcie_gen, pcie_gen_idle, pcie_width, nvlinks;
    double ecc, ecc_pending, persistence, mig, mig_pending, remap_banks, tlimit, nvlink_version, sram_exceeded, recovery;
};

struct scenario {
    char name[64], driver[48], nvml[32], kmsg[256], load_file[256], problem[128];
    double cuda, seed, load;
    int init;          /* what nvmlInit answers; -1: it hangs */
    int cards, faults, loads;
    struct card card[MAX_GPUS];
    struct fault fault[MAX_FAULTS];
    struct { double at, load; } schedule[MAX_LOADS];
};

/* What changes, per GPU, at the last tick. */
struct gauges {
    double power, average, temperature, memory_temperature, energy, sm, memory_clock, busy;
    uint64_t reasons;
    int under_load;
};

int scenario_read(struct scenario *into, char *text); /* an nvmlReturn_t; into->problem says what is wrong */
int world_open(void);   /* read the scenario, join its state; an nvmlReturn_t */
void world_close(void);
const struct scenario *world(void);
double world_now(void); /* seconds since the scenario began */
double world_at(int gpu, struct gauges *seen); /* bring the state up to now, copy a GPU's gauges; returns now */
const struct fault *active(enum kind kind, int gpu, double now, int *from);
double amount(enum kind kind, int gpu, double now, const char *what); /* sum of value + rate * time of matching faults */
uint64_t hashed(uint64_t value);

/* --- what the exported functions are made of ---------------------------------------------------------------- */

#define API __attribute__((visibility("default")))

struct nvmlDevice { int magic, index; };
typedef struct nvmlDevice *device_t;
typedef int answer_t;
typedef unsigned long long u64;

struct look {
    const struct card *card;
    struct gauges gauges;
    double now;
    int gpu;
};

answer_t enter(device_t device, const char *call, struct look *look);
answer_t spoilt(int gpu, double now, const char *call);
answer_t text_out(const char *text, char *out, unsigned length);

#define ENTER                                                      \
    struct look look;                                              \
    answer_t failed = enter(device, __func__, &look);              \
    if (failed)                                                    \
        return failed

/* A function that gives one number, or two. `look.card` is what the card is, `look.gauges` what it does now. */
#define ONE(name, type, value)                 \
    API answer_t name(device_t device, type *out) \
    {                                          \
        ENTER;                                 \
        if (!out)                              \
            return INVALID_ARGUMENT;           \
        *out = (type)(value);                  \
        return OK;                             \
    }
#define TWO(name, first, second)                                                   \
    API answer_t name(device_t device, unsigned *one, unsigned *two)               \
    {                                                                              \
        ENTER;                                                                     \
        if (!one || !two)                                                          \
            return INVALID_ARGUMENT;                                               \
        *one = (unsigned)(first);                                                  \
        *two = (unsigned)(second);                                                 \
        return OK;                                                                 \
    }
#define WORDS(name, text)                                              \
    API answer_t name(device_t device, char *out, unsigned length)     \
    {                                                                  \
        ENTER;                                                         \
        return text_out(text, out, length);                            \
    }

#endif
