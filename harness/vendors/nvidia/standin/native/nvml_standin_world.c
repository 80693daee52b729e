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
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_TICKS 6000 /* ten minutes: caught up with in some milliseconds */
#define MAX_TEXT (256 * 1024)
#define READY 0x53484b32u

struct state {
    uint32_t ready;
    pthread_mutex_t lock;
    double origin;
    double loaded; /* when a load was first seen; negative: not yet */
    uint64_t ticks, turns;
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
double uneven(int gpu, uint64_t tick, unsigned what)
{
    uint64_t mixed = hashed((uint64_t)scene.seed ^ hashed(tick * 64 + (uint64_t)gpu) ^ ((uint64_t)what << 48));
    return (double)(mixed >> 11) / (double)(1ull << 52) - 1;
}

double normal(int gpu, uint64_t tick, unsigned what)
{ /* Box and Muller */
    double one = (uneven(gpu, tick, what << 1 | 0x4000) + 1) / 2, two = uneven(gpu, tick, what << 1 | 0x4001);
    return sqrt(-2 * log(one > 1e-12 ? one : 1e-12)) * cos(M_PI * two);
}

const struct scenario *world(void)
{
    return &scene;
}

int world_open_now(void)
{
    return state != NULL;
}

double world_loaded(void)
{
    return state ? state->loaded : -1;
}

uint64_t world_turn(void)
{
    return state ? __atomic_add_fetch(&state->turns, 1, __ATOMIC_RELAXED) : 0;
}

double world_now(void)
{
    return state ? clock_now() - state->origin : 0;
}

/* --- faults ------------------------------------------------------------------------------------------------ */

/* Seconds on a fault's own clock; negative before it begins to go. */
static double since(const struct fault *fault, double now)
{
    return !fault->by_load ? now : state && state->loaded >= 0 ? now - state->loaded : -1;
}

/* The next active fault of a kind on a GPU, from index *from on; NULL when there is none. */
const struct fault *active(enum kind kind, int gpu, double now, int *from)
{
    for (int n = *from; n < scene.faults; n++) {
        const struct fault *fault = &scene.fault[n];
        if (fault->kind != kind || (fault->gpu >= 0 && fault->gpu != gpu))
            continue;
        double then = since(fault, now);
        if (then >= fault->at && (fault->until < 0 || then < fault->until)) {
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
        if (fault->kind != kind || (fault->gpu >= 0 && fault->gpu != gpu) || (what && strcmp(what, fault->what)))
            continue;
        double then = since(fault, now);
        if (then < fault->at)
            continue;
        double end = fault->until >= 0 && fault->until < then ? fault->until : then;
        sum += fault->value + (double)(int64_t)(fault->rate * (end - fault->at));
    }
    return sum;
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
        snprintf(line, sizeof line, "%d,%ld,%.0f,-;%s\n", 8 + level, lines, clock_now() * 1e6, text);
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
        if ((fault->kind != XID && fault->kind != LOG) || state->told[n] || since(fault, now) < fault->at)
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

/* Whether a keyed job other than a sampler goes on (its files: harness/workloads/runner.sh). */
static int working(void)
{
    DIR *folder = opendir(scene.jobs);
    int found = 0;
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
        char path[600];
        size_t length = strlen(entry->d_name);
        if (*entry->d_name == '.' || (length >= 8 && !strcmp(entry->d_name + length - 8, "-sampler")))
            continue;
        snprintf(path, sizeof path, "%s/%.255s/pid", scene.jobs, entry->d_name);
        found = !access(path, F_OK);
        snprintf(path, sizeof path, "%s/%.255s/status", scene.jobs, entry->d_name);
        found = found && access(path, F_OK);
    }
    if (folder)
        closedir(folder);
    return found;
}

/* What can be seen of a load outside the scenario; 1 where it is the scenario's own. */
static int load_is_there(void)
{
    if (*scene.load_file)
        return !access(scene.load_file, F_OK);
    return !*scene.jobs || working();
}

static double load_at(double now, int there)
{
    double load = scene.load;
    for (int n = 0; !*scene.load_file && n < scene.loads && scene.schedule[n].at <= now; n++)
        load = scene.schedule[n].load;
    return there || (!scene.follows && !*scene.load_file) ? load : 0;
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
        int there = load_is_there();
        skip(now);
        while ((double)(state->ticks + 1) * TICK <= now) {
            double then = (double)++state->ticks * TICK, load = load_at(then, there);
            if (state->loaded < 0 && there && load > LOADED)
                state->loaded = then;
            for (int n = 0; n < scene.cards; n++)
                card_tick(n, then, state->ticks, load, state->gpu, &state->gpu[n]);
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
    state->origin = clock_turned() ? 0 : clock_now();
    int there = load_is_there();
    double load = load_at(0, there);
    state->loaded = there && load > LOADED ? 0 : -1;
    for (int gpu = 0; gpu < scene.cards; gpu++)
        card_begin(gpu, &state->gpu[gpu]);
    for (int gpu = 0; gpu < scene.cards; gpu++)
        card_tick(gpu, 0, 0, load, state->gpu, &state->gpu[gpu]);
    state->ready = READY;
}

static int join(const char *path, uint64_t key)
{
    char name[4096];
    if (clock_own()) { /* a time that only this process knows is no other's */
        void *there = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (there == MAP_FAILED)
            return OPERATING_SYSTEM;
        state = there;
        begin();
        return OK;
    }
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
    int answer = clock_open();
    if (answer != OK)
        return answer;
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
    answer = scenario_read(&scene, text);
    free(text);
    return answer == OK && scene.init == OK ? join(path, key) : answer != OK ? answer : scene.init;
}

void world_close(void)
{
    if (state)
        munmap(state, sizeof *state);
    state = NULL;
}
