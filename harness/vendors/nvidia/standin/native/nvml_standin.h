/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the NVML stand-in share: a scenario as read, the GPUs' state at one moment, and the shape of
 * an exported function.
 */
#ifndef NVML_STANDIN_H
#define NVML_STANDIN_H

#include <stddef.h>
#include <stdint.h>

typedef int answer_t; /* nvmlReturn_t */
typedef unsigned long long u64;

#define MAX_GPUS 16
#define MAX_FAULTS 64
#define MAX_LOADS 256
#define MAX_SERIES 64
#define MAX_POINTS 4096 /* of all series together */
#define MAX_TEXTS 64
#define TEXT_BYTES 96
#define MAX_LINKS 18
#define LOCATIONS 8 /* of memory errors, nvmlMemoryLocation_t */
#define TICK 0.1    /* seconds; about as often as real sensors move */
#define LOADED 0.02 /* a load above this makes the card leave its idle clocks and link speed */

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
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
    OPERATING_SYSTEM = 17,
    VERSION_MISMATCH = 18,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

/* All that a series of a scenario can set, with the step in which NVML tells it (0: no number, a text). The
 * functions of the library answer by reading() and words_of() and by nothing else, so that a series holds in every
 * function that tells the same thing. Names are those of harness/telemetry/gpu/series.py; a test compares them.
 * The last row is not told by NVML: causes, which the card's behaviour follows from. */
#define READINGS(each)                                                                                              \
    each(power, .001) each(energy, .001) each(temperature, 1) each(temperature_memory, 1) each(temperature_margin, 1) \
    each(clock_sm, 1) each(clock_memory, 1) each(util_gpu, 1) each(util_memory, 1) each(util_encoder, 1)             \
    each(util_decoder, 1) each(pcie_gen, 1) each(pcie_width, 1) each(reasons, 1) each(memory_used, 1)                \
    each(pcie_replays, 1) each(ecc_corrected, 1) each(ecc_uncorrected, 1) each(ecc_corrected_aggregate, 1)           \
    each(ecc_uncorrected_aggregate, 1) each(remap_corrected, 1) each(remap_uncorrected, 1) each(remap_pending, 1)    \
    each(remap_failed, 1) each(retired_single_bit, 1) each(retired_double_bit, 1) each(retired_pending, 1)           \
    each(nvlink_active, 1) each(nvlink_replay, 1) each(nvlink_recovery, 1) each(nvlink_crc, 1) each(nvlink_errors, 1) \
    each(recovery_action, 1) each(encoder_sessions, 1) each(processes, 1)                                            \
    each(power_limit, .001) each(power_limit_default, .001) each(power_limit_min, .001) each(power_limit_max, .001)  \
    each(temperature_slowdown, 1) each(temperature_shutdown, 1) each(temperature_gpu_max, 1)                         \
    each(temperature_memory_max, 1) each(temperature_gpu_max_tlimit, 1) each(clock_sm_max, 1)                        \
    each(clock_memory_max, 1) each(clock_sm_application, 1) each(clock_memory_application, 1) each(pcie_max_gen, 1)  \
    each(pcie_max_width, 1) each(ecc_current, 1) each(ecc_pending, 1) each(ecc_default, 1) each(sram_exceeded, 1)    \
    each(persistence, 1) each(mig, 1) each(mig_pending, 1) each(nvlink_links, 1) each(memory_bytes, 1)               \
    each(fan_speed, 1) each(pcie_tx, 1) each(pcie_rx, 1) each(pstate, 1)                                             \
    each(uuid, 0) each(serial, 0) each(name, 0) each(vbios, 0) each(driver, 0) each(nvml, 0)                         \
    each(load, 1e-9) each(ambient, 1e-9) each(clock_cap, 1e-9)

enum reading {
#define EACH(name, step) READ_##name,
    READINGS(EACH)
#undef EACH
    READING_COUNT
};

enum kind {
    THROTTLE, ECC, REMAP, RETIRED, XID, LOG, VANISH, HANG, FREEZE, UNSUPPORTED, FAILING, LINK_GEN, LINK_WIDTH,
    REPLAY, HOT, MEMORY_HOT, NVLINK, NVLINK_DOWN, PROCESS, KINDS
};

struct fault {
    enum kind kind;
    int gpu;          /* -1: all of them */
    int by_load;      /* its times count from when a load was first seen, else from the first nvmlInit */
    double at, until; /* seconds; until < 0: for good */
    double value, rate, chance;
    char what[160];
};

struct point {
    double at, value; /* of a text: its number */
    int none;         /* the reading fails from here on */
    double sum, grown; /* up to here: integral of the values, and of all that the value rose by */
};

enum apply { SET, ADD, SCALE };

/* What a reading shows instead of, or on top of, what the card does. */
struct series {
    enum reading reading;
    int gpu, by_load, step, rate;
    enum apply apply;
    double noise, repeat, until; /* repeat 0: once; until < 0: for good */
    answer_t none;               /* what it answers where a point has no value */
    int first, points;
};

struct card {
    char name[96], uuid[96], serial[30], vbios[32], inforom[16], part[80];
    unsigned domain, bus, device;
    double vendor, model, subsystem_vendor, subsystem;
    double memory_bytes, power_idle, power_peak, power_limit, power_default, power_min, power_max;
    double ambient, rise, lag, memory_rise, slowdown, shutdown, gpu_max, memory_max;
    double sm_idle, sm_peak, memory_clock_idle, memory_clock_peak, pcie_gen, pcie_gen_idle, pcie_width, nvlinks;
    double ecc, ecc_pending, persistence, mig, mig_pending, remap_banks, tlimit, nvlink_version, sram_exceeded, recovery;
    double ramp, linger, quick, neighbour, leak, droop, util_window, spread, draught, fans;
};

struct scenario {
    char name[64], driver[48], nvml[32], kmsg[256], load_file[256], jobs[256], problem[128];
    double cuda, seed, load;
    int init;          /* what nvmlInit answers; -1: it hangs */
    int follows;       /* the GPUs are busy only while a job runs */
    int cards, faults, loads, series_count, points, texts;
    struct card card[MAX_GPUS];
    struct fault fault[MAX_FAULTS];
    struct { double at, load; } schedule[MAX_LOADS];
    struct series series[MAX_SERIES];
    struct point point[MAX_POINTS];
    char text[MAX_TEXTS][TEXT_BYTES];
    unsigned char has_series[READING_COUNT];
};

/* What changes, per GPU, at the last tick. */
struct gauges {
    double power, average, temperature, memory_temperature, energy, sm, memory_clock, busy;
    double demand, heat, draught, since_load; /* how it comes about: load after its ramp, sink, air, idle for so long */
    uint64_t reasons;
    int under_load;
};

int scenario_read(struct scenario *into, char *text); /* an nvmlReturn_t; into->problem says what is wrong */
int world_open(void);   /* read the scenario, join its state; an nvmlReturn_t */
void world_close(void);
int world_open_now(void);
const struct scenario *world(void);
double world_now(void); /* seconds since the scenario began */
double world_at(int gpu, struct gauges *seen); /* bring the state up to now, copy a GPU's gauges; returns now */
double world_loaded(void); /* when a load was first seen; negative: not yet */
uint64_t world_turn(void); /* another number at each call */
double clock_now(void);    /* seconds: since the machine started, or of a clock that somebody else turns */
int clock_turned(void);    /* whether somebody else does */
int clock_own(void);       /* whether this process does, alone */
int clock_open(void);      /* an nvmlReturn_t */
void clock_set(double seconds);
void clock_pass(double seconds);
const struct fault *active(enum kind kind, int gpu, double now, int *from);
double amount(enum kind kind, int gpu, double now, const char *what); /* sum of value + rate * time of matching faults */
uint64_t hashed(uint64_t value);
double uneven(int gpu, uint64_t tick, unsigned what);  /* between -1 and 1 */
double normal(int gpu, uint64_t tick, unsigned what); /* of standard deviation 1 */
void card_begin(int gpu, struct gauges *seen);
void card_tick(int gpu, double now, uint64_t tick, double load, const struct gauges *all, struct gauges *seen);

/* What the series of a reading make of it at that time: of `value` and `answer`, which are the card's own. */
answer_t series_over(enum reading which, int gpu, double now, answer_t answer, double *value);
double series_grown(enum reading which, int gpu, double now); /* what a counter's series rose by, resets or not */
const char *series_text(enum reading which, int gpu, double now, const char *own, answer_t *answer);

/* --- what the exported functions are made of ---------------------------------------------------------------- */

#define API __attribute__((visibility("default")))

struct nvmlDevice { int magic, index; };
typedef struct nvmlDevice *device_t;

struct look {
    const struct card *card;
    struct gauges gauges;
    double now;
    int gpu;
};

answer_t enter(device_t device, const char *call, struct look *look);
answer_t spoilt(int gpu, double now, const char *call);
answer_t text_out(const char *text, char *out, unsigned length);
answer_t reading(const struct look *look, enum reading which, double *value);
answer_t ecc_reading(const struct look *look, unsigned sort, unsigned counter, unsigned place, double *value);
answer_t link_reading(const struct look *look, int link, unsigned counter, double *value);
const char *words_of(const struct look *look, enum reading which, answer_t *answer);
u64 whole(double value, double step); /* how many steps that is, to the nearest; of a negative one the complement */
answer_t told(const struct look *look, enum reading which, double step, u64 *out);
int reading_named(const char *name, size_t length); /* an enum reading; -1: unknown */
extern const double READING_STEP[READING_COUNT];

#define ENTER                                                      \
    struct look look;                                              \
    answer_t failed = enter(device, __func__, &look);              \
    if (failed)                                                    \
        return failed

/* Give a reading in NVML's unit (steps of `step` ours), or its error. */
#define GIVE_OF(look, out, which, step)                            \
    do {                                                           \
        u64 steps;                                                 \
        if ((failed = told(look, which, step, &steps)))            \
            return failed;                                         \
        (out) = (__typeof__(out))steps;                            \
    } while (0)
#define GIVE(out, which, step) GIVE_OF(&look, out, which, step)

/* A function that gives one reading, two of them, a number that no series sets, or a text. */
#define ONE(name, type, which, step)               \
    API answer_t name(device_t device, type *out)  \
    {                                              \
        ENTER;                                     \
        if (!out)                                  \
            return INVALID_ARGUMENT;               \
        GIVE(*out, which, step);                   \
        return OK;                                 \
    }
#define TWO(name, first, second, step)                                             \
    API answer_t name(device_t device, unsigned *one, unsigned *two)               \
    {                                                                              \
        ENTER;                                                                     \
        if (!one || !two)                                                          \
            return INVALID_ARGUMENT;                                               \
        GIVE(*one, first, step);                                                   \
        GIVE(*two, second, step);                                                  \
        return OK;                                                                 \
    }
#define FIXED(name, type, value)                   \
    API answer_t name(device_t device, type *out)  \
    {                                              \
        ENTER;                                     \
        if (!out)                                  \
            return INVALID_ARGUMENT;               \
        *out = (type)(value);                      \
        return OK;                                 \
    }
#define WORDS(name, which)                                             \
    API answer_t name(device_t device, char *out, unsigned length)     \
    {                                                                  \
        ENTER;                                                         \
        const char *text = words_of(&look, which, &failed);            \
        return failed ? failed : text_out(text, out, length);          \
    }

#endif
