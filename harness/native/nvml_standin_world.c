/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the NVML stand-in: a scenario, and GPUs that warm up, throttle, err and vanish as it says.
 *
 * Time begins with the first nvmlInit in any process: all processes that use one scenario file share one state
 * (a file beside it, named after its content, its age and the boot), so that all see the same heat and an XID is
 * written once. The state moves in ticks of 0.1 s, about as often as real sensors do, and is the same for the
 * same seed and the same loads.
 */
#define _GNU_SOURCE
#include "nvml_standin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TICK 0.1
#define MOST_TICKS 6000 /* ten minutes: caught up with in some milliseconds */
#define MAX_TEXT (256 * 1024)
#define READY 0x53484b31u
#define BUSY 0.02 /* a load above this makes the card leave its idle clocks and link speed */

struct state {
    uint32_t ready;
    pthread_mutex_t lock;
    double origin;
    uint64_t ticks;
    struct gauges gpu[MAX_GPUS];
    uint8_t told[MAX_FAULTS];
};

static struct scenario scene;
static struct state *state;

uint64_t hashed(uint64_t value)
{ /* splitmix64: well mixed, and the same everywhere */
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* Between -1 and 1, fixed by the seed, the GPU, the tick and what it is for. */
static double noise(int gpu, uint64_t tick, unsigned what)
{
    uint64_t mixed = hashed((uint64_t)scene.seed ^ hashed(tick * 64 + (uint64_t)gpu) ^ ((uint64_t)what << 56));
    return (double)(mixed >> 11) / (double)(1ull << 52) - 1;
}

const struct scenario *world(void)
{
    return &scene;
}

static double boottime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double world_now(void)
{
    return state ? boottime() - state->origin : 0;
}

/* --- faults ------------------------------------------------------------------------------------------------ */

/* The next active fault of a kind on a GPU, from index *from on; NULL when there is none. */
const struct fault *active(enum kind kind, int gpu, double now, int *from)
{
    for (int n = *from; n < scene.faults; n++) {
        const struct fault *fault = &scene.fault[n];
        if (fault->kind == kind && (fault->gpu < 0 || fault->gpu == gpu) && now >= fault->at &&
            (fault->until < 0 || now < fault->until)) {
            *from = n + 1;
            return fault;
        }
    }
    *from = scene.faults;
    return NULL;
}

/* What counters of a kind have grown by. They keep what they counted when the fault is over. */
double amount(enum kind kind, int gpu, double now, const char *what)
{
    double sum = 0;
    for (int n = 0; n < scene.faults; n++) {
        const struct fault *fault = &scene.fault[n];
        if (fault->kind != kind || (fault->gpu >= 0 && fault->gpu != gpu) || now < fault->at)
            continue;
        if (what && strcmp(what, fault->what))
            continue;
        double end = fault->until >= 0 && fault->until < now ? fault->until : now;
        sum += fault->value + (double)(int64_t)(fault->rate * (end - fault->at));
    }
    return sum;
}

static uint64_t throttled(int gpu, double now)
{
    uint64_t reasons = 0;
    int from = 0;
    for (const struct fault *fault; (fault = active(THROTTLE, gpu, now, &from));)
        reasons |= 1ull << (int)fault->value;
    return reasons;
}

/* A line for the kernel's log: /dev/kmsg adds the rest itself; into a file it goes as /dev/kmsg would show it. */
static void tell(int level, const char *text)
{
    struct stat status;
    char line[512], seen[4096];
    int file = open(scene.kmsg, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (file < 0)
        file = open(scene.kmsg, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return;
    if (fstat(file, &status) || S_ISCHR(status.st_mode)) {
        snprintf(line, sizeof line, "<%d>%s\n", level, text);
    } else {
        long lines = 0;
        for (ssize_t got; (got = read(file, seen, sizeof seen)) > 0;)
            for (ssize_t n = 0; n < got; n++)
                lines += seen[n] == '\n';
        snprintf(line, sizeof line, "%d,%ld,%.0f,-;%s\n", 8 + level, lines, boottime() * 1e6, text);
    }
    if (write(file, line, strlen(line)) < 0)
        errno = 0; /* nobody to complain to: the library of a driver has no log of its own */
    close(file);
}

static void tell_what_is_due(double now)
{
    for (int n = 0; n < scene.faults; n++) {
        const struct fault *fault = &scene.fault[n];
        char text[400];
        if ((fault->kind != XID && fault->kind != LOG) || state->told[n] || now < fault->at)
            continue;
        state->told[n] = 1;
        if (fault->kind == LOG) {
            tell((int)fault->value, fault->what);
            continue;
        }
        for (int gpu = 0; gpu < scene.cards; gpu++) {
            const struct card *card = &scene.card[gpu];
            if (fault->gpu >= 0 && fault->gpu != gpu)
                continue;
            snprintf(text, sizeof text, "NVRM: Xid (PCI:%04x:%02x:%02x): %d, %s", card->domain, card->bus,
                     card->device, (int)fault->value, fault->what);
            tell(3, text);
        }
    }
}

/* --- dynamics ---------------------------------------------------------------------------------------------- */

static double load_at(double now)
{
    double load = scene.load;
    if (*scene.load_file)
        return access(scene.load_file, F_OK) ? 0 : load;
    for (int n = 0; n < scene.loads && scene.schedule[n].at <= now; n++)
        load = scene.schedule[n].load;
    return load;
}

static void tick(int gpu, double now, double load)
{
    const struct card *card = &scene.card[gpu];
    struct gauges *seen = &state->gpu[gpu];
    uint64_t when = state->ticks;
    int from = 0;
    if (active(FREEZE, gpu, now, &from) || (from = 0, active(VANISH, gpu, now, &from)))
        return;
    uint64_t reasons = throttled(gpu, now);
    double share = (reasons & ~3ull) ? 0.55 : 1, ripple = 1 + 0.02 * noise(gpu, when, 1);
    double demand = card->power_idle + (card->power_peak - card->power_idle) * load * share * ripple;
    if (demand > card->power_limit) {
        demand = card->power_limit * (1 + 0.004 * noise(gpu, when, 2));
        reasons |= 4;
        share *= 0.93;
    }
    seen->under_load = load > BUSY;
    if (!seen->under_load)
        reasons |= 1;
    seen->power = demand * (1 + 0.003 * noise(gpu, when, 3));
    seen->average += (seen->power - seen->average) * TICK;
    seen->energy += seen->power * TICK;
    double heat = card->rise * (seen->power - card->power_idle) / (card->power_peak - card->power_idle);
    double aim = card->ambient + 6 + heat + amount(HOT, gpu, now, NULL);
    seen->temperature += (aim - seen->temperature) * TICK / card->lag;
    aim = seen->temperature + card->memory_rise * (0.3 + 0.7 * load) + amount(MEMORY_HOT, gpu, now, NULL);
    seen->memory_temperature += (aim - seen->memory_temperature) * TICK / (card->lag / 4);
    seen->reasons = reasons;
    seen->sm = seen->under_load ? 15 * (double)(int)(card->sm_peak * share * (1 - 0.005 * (1 + noise(gpu, when, 4))) / 15)
                                : card->sm_idle; /* clocks move in steps of 15 MHz */
    seen->memory_clock = seen->under_load ? card->memory_clock_peak : card->memory_clock_idle;
    double busy = load + 0.03 * noise(gpu, when, 5);
    seen->busy = !seen->under_load || busy < 0 ? 0 : busy > 1 ? 1 : busy;
}

static void take_lock(void)
{
    if (pthread_mutex_lock(&state->lock) == EOWNERDEAD) /* a process was killed in the middle of a tick */
        pthread_mutex_consistent(&state->lock);
}

/* Nobody asked for long: what lies back further than heat lasts is taken as it was at the last look. */
static void skip(double now)
{
    double late = now / TICK - (double)state->ticks - MOST_TICKS;
    if (late <= 0)
        return;
    for (int n = 0, from; n < scene.cards; n++)
        if (from = 0, !active(FREEZE, n, now, &from))
            state->gpu[n].energy += state->gpu[n].power * TICK * (double)(uint64_t)late;
    state->ticks += (uint64_t)late;
}

double world_at(int gpu, struct gauges *seen)
{
    take_lock();
    double now = world_now();
    if (now >= (double)(state->ticks + 1) * TICK) {
        double load = load_at(now);
        skip(now);
        while ((double)(state->ticks + 1) * TICK <= now) {
            double then = (double)++state->ticks * TICK;
            for (int n = 0; n < scene.cards; n++)
                tick(n, then, *scene.load_file ? load : load_at(then));
        }
        tell_what_is_due(now);
    }
    if (seen)
        *seen = state->gpu[gpu];
    pthread_mutex_unlock(&state->lock);
    return now;
}

/* --- the shared state -------------------------------------------------------------------------------------- */

/* Of what a state is the state: this text, written at this moment, since this boot. */
static uint64_t digest(const char *text, size_t length, const struct stat *written)
{
    char boot[64] = "";
    uint64_t mixed = hashed((uint64_t)written->st_mtim.tv_sec ^ hashed((uint64_t)written->st_mtim.tv_nsec));
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file) {
        boot[fread(boot, 1, sizeof boot - 1, file)] = 0;
        fclose(file);
    }
    for (const char *at = boot; *at; at++)
        mixed = hashed(mixed ^ (unsigned char)*at);
    for (size_t n = 0; n < length; n++)
        mixed = hashed(mixed ^ (unsigned char)text[n]);
    return mixed;
}

static void begin(void)
{
    pthread_mutexattr_t attributes;
    memset(state, 0, sizeof *state);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&state->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    state->origin = boottime();
    double load = load_at(0);
    for (int gpu = 0; gpu < scene.cards; gpu++) {
        const struct card *card = &scene.card[gpu];
        state->gpu[gpu].average = card->power_idle;
        state->gpu[gpu].temperature = card->ambient + 6;
        state->gpu[gpu].memory_temperature = card->ambient + 6 + card->memory_rise * 0.3;
        state->gpu[gpu].energy = 1e5 * (gpu + 1); /* the counter runs since the driver was loaded */
        tick(gpu, 0, load);
    }
    state->ready = READY;
}

static int join(const char *path, uint64_t key)
{
    char name[4096];
    if ((size_t)snprintf(name, sizeof name, "%s.%016llx.state", path, (unsigned long long)key) >= sizeof name)
        return OPERATING_SYSTEM;
    int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return errno == EACCES || errno == EROFS ? NO_PERMISSION : OPERATING_SYSTEM;
    int answer = OPERATING_SYSTEM;
    if (!flock(file, LOCK_EX) && !ftruncate(file, sizeof *state)) {
        state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (state == MAP_FAILED) {
            state = NULL;
        } else {
            if (state->ready != READY)
                begin();
            answer = OK;
        }
        flock(file, LOCK_UN); /* closing would not do: the mapping keeps the file, and with it the lock */
    }
    close(file);
    return answer;
}

int world_open(void)
{
    const char *path = getenv("SHAKEDOWN_NVML_SCENARIO");
    if (!path || !*path)
        path = "/run/shakedown/nvml.scenario";
    struct stat written;
    FILE *file = fopen(path, "re");
    if (!file)
        return DRIVER_NOT_LOADED;
    if (fstat(fileno(file), &written)) {
        fclose(file);
        return OPERATING_SYSTEM;
    }
    char *text = malloc(MAX_TEXT + 1);
    size_t length = text ? fread(text, 1, MAX_TEXT, file) : 0;
    fclose(file);
    if (!text)
        return OPERATING_SYSTEM;
    text[length] = 0;
    uint64_t key = digest(text, length, &written);
    int answer = scenario_read(&scene, text);
    free(text);
    return answer == OK && scene.init == OK ? join(path, key) : answer != OK ? answer : scene.init;
}

void world_close(void)
{
    if (state)
        munmap(state, sizeof *state);
    state = NULL;
}
