/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads the scenario of the NVML stand-in.
 *
 * The scenario is text ($SHAKEDOWN_NVML_SCENARIO, else /run/shakedown/nvml.scenario), made by
 * harness/vendors/nvidia/standin/scenario.py, a key and its value a line:
 *
 *     shakedown-nvml-standin 2
 *     name NAME | seed N | driver VERSION | nvml VERSION | cuda N | kmsg PATH
 *     init ok | driver_not_loaded | version_mismatch | no_permission | hang
 *     load SECONDS SHARE          from then on the GPUs are this busy (0 to 1); several, in order of time
 *     load_file PATH SHARE        instead: this busy while the file exists, else idle
 *     jobs PATH                   keyed jobs of loads (harness/workloads/runner.sh) show in this folder
 *     follow                      the GPUs are busy only while one of them runs
 *     gpu ADDRESS                 the next GPU; lines "card KEY VALUE" after it say what differs from the default
 *     fault KIND GPU CLOCK AT UNTIL VALUE RATE CHANCE [WHAT...]      GPU * for all, UNTIL - for good; times in seconds
 *     series READING GPU CLOCK FORM APPLY RATE NOISE REPEAT UNTIL NONE     then its points, in order of time:
 *     point SECONDS VALUE         a number; a text for a reading that is one; - for none
 *
 * CLOCK: what times count from: `start`, the first nvmlInit, or `load`, when a load was first seen. FORM: `linear`
 * between points, or `step`. APPLY: `set`, `add` to what the card does itself, or `scale` it. RATE: 1 where points are
 * rates per second. NOISE: standard deviation. REPEAT: period, 0: none. NONE: the error where a point has no value.
 */
#include "nvml_standin.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct scenario *scene; /* the one being read */

static const char *const KIND_NAMES[KINDS] = {
    "throttle", "ecc", "remap", "retired", "xid", "log", "vanish", "hang", "freeze", "unsupported", "failing",
    "link_gen", "link_width", "replay", "hot", "memory_hot", "nvlink", "nvlink_down", "process",
};

/* Clock-event reasons by our names, in the order of their bits (nvmlClocksEventReason*, nvml.h). */
static const char *const REASONS[] = {
    "idle", "app_clocks", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal", "power_brake",
    "display",
};

#define NUMBER(key, value) { #key, offsetof(struct card, key), 0, value, "" }
#define TEXT(key, value) { #key, offsetof(struct card, key), sizeof(((struct card *)0)->key), 0, value }
static const struct { const char *key; size_t offset, size; double number; const char *text; } CARD[] = {
    TEXT(name, "Shakedown stand-in"), TEXT(uuid, ""), TEXT(serial, ""), TEXT(vbios, "00.00.00.00.01"),
    TEXT(inforom, "S000.0000.00.01"), TEXT(part, "standin"),
    NUMBER(vendor, 0x1234), NUMBER(model, 0x11e8), NUMBER(subsystem_vendor, 0x1af4), NUMBER(subsystem, 0x1100),
    NUMBER(memory_bytes, 17179869184.0), NUMBER(power_idle, 30), NUMBER(power_peak, 250), NUMBER(power_limit, 250),
    NUMBER(power_default, 250), NUMBER(power_min, 100), NUMBER(power_max, 250), NUMBER(ambient, 28),
    NUMBER(rise, 42), NUMBER(lag, 25), NUMBER(memory_rise, 8), NUMBER(slowdown, 92), NUMBER(shutdown, 97),
    NUMBER(gpu_max, 87), NUMBER(memory_max, 95), NUMBER(sm_idle, 210), NUMBER(sm_peak, 1700),
    NUMBER(memory_clock_idle, 405), NUMBER(memory_clock_peak, 7000), NUMBER(pcie_gen, 4), NUMBER(pcie_gen_idle, 1),
    NUMBER(pcie_width, 16), NUMBER(nvlinks, 0), NUMBER(ecc, 1), NUMBER(ecc_pending, 1), NUMBER(persistence, 1),
    NUMBER(mig, 0), NUMBER(mig_pending, 0), NUMBER(remap_banks, 640), NUMBER(tlimit, 0), NUMBER(nvlink_version, 3),
    NUMBER(sram_exceeded, 0), NUMBER(recovery, 0), NUMBER(ramp, 0), NUMBER(linger, 0), NUMBER(quick, 0),
    NUMBER(neighbour, 0), NUMBER(leak, 0), NUMBER(droop, 0), NUMBER(util_window, 0), NUMBER(spread, 0),
    NUMBER(draught, 0), NUMBER(fans, 0),
};
#define CARD_KEYS (sizeof CARD / sizeof *CARD)

static int one_of(const char *word, const char *const *words, int count)
{
    for (int n = 0; n < count; n++)
        if (!strcmp(word, words[n]))
            return n;
    return -1;
}

static int bad(int line, const char *why)
{
    snprintf(scene->problem, sizeof scene->problem, "line %d: %s", line, why);
    return INVALID_ARGUMENT;
}

static int copied(char *into, size_t size, const char *text)
{
    size_t length = strlen(text);
    if (length >= size)
        return 0;
    memcpy(into, text, length + 1);
    return 1;
}

/* The next word of a line; *rest moves behind it. */
static char *word(char **rest)
{
    char *start = *rest + strspn(*rest, " ");
    size_t length = strcspn(start, " ");
    *rest = start + length + (start[length] ? 1 : 0);
    start[length] = 0;
    return start;
}

static int number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return *text && !*end && isfinite(*value);
}

static int read_card(char *rest)
{
    struct card *card = &scene->card[scene->cards - 1];
    const char *key = word(&rest);
    for (size_t n = 0; n < CARD_KEYS; n++) {
        if (strcmp(key, CARD[n].key))
            continue;
        char *field = (char *)card + CARD[n].offset;
        return CARD[n].size ? copied(field, CARD[n].size, rest) : number(rest, (double *)(void *)field);
    }
    return 0;
}

static int read_gpu(const char *address)
{
    if (scene->cards >= MAX_GPUS)
        return 0;
    struct card *card = &scene->card[scene->cards++];
    unsigned function;
    for (size_t n = 0; n < CARD_KEYS; n++) {
        char *field = (char *)card + CARD[n].offset;
        if (CARD[n].size)
            copied(field, CARD[n].size, CARD[n].text);
        else
            memcpy(field, &CARD[n].number, sizeof(double));
    }
    return sscanf(address, "%x:%x:%x.%u", &card->domain, &card->bus, &card->device, &function) == 4;
}

static int read_which(const char *text, int *gpu)
{
    double value = -1;
    if (strcmp(text, "*") && (!number(text, &value) || value < 0 || value >= MAX_GPUS))
        return 0;
    *gpu = (int)value;
    return 1;
}

static int read_end(const char *text, double *until)
{
    *until = -1;
    return !strcmp(text, "-") || (number(text, until) && *until >= 0);
}

/* One of two words: 0, 1; -1 for another. */
static int either(const char *text, const char *first, const char *second)
{
    return !strcmp(text, first) ? 0 : !strcmp(text, second) ? 1 : -1;
}

static int read_fault(char *rest)
{
    struct fault *fault = &scene->fault[scene->faults];
    if (scene->faults >= MAX_FAULTS)
        return 0;
    int kind = one_of(word(&rest), KIND_NAMES, KINDS);
    if (kind < 0 || !read_which(word(&rest), &fault->gpu) ||
        (fault->by_load = either(word(&rest), "start", "load")) < 0 || !number(word(&rest), &fault->at) ||
        !read_end(word(&rest), &fault->until) || !number(word(&rest), &fault->value) ||
        !number(word(&rest), &fault->rate) || !number(word(&rest), &fault->chance) ||
        !copied(fault->what, sizeof fault->what, rest))
        return 0;
    if (kind == THROTTLE && (fault->value = one_of(fault->what, REASONS, 9)) < 0)
        return 0;
    fault->kind = (enum kind)kind;
    scene->faults++;
    return 1;
}

static int read_series(char *rest)
{
    static const char *const APPLY[] = {"set", "add", "scale"};
    struct series *series = &scene->series[scene->series_count];
    double none;
    if (scene->series_count >= MAX_SERIES)
        return 0;
    const char *name = word(&rest);
    int which = reading_named(name, strlen(name));
    if (which < 0 || !read_which(word(&rest), &series->gpu))
        return 0;
    series->by_load = either(word(&rest), "start", "load");
    series->step = either(word(&rest), "linear", "step");
    int apply = one_of(word(&rest), APPLY, 3);
    series->rate = either(word(&rest), "0", "1");
    if (series->by_load < 0 || series->step < 0 || apply < 0 || series->rate < 0 ||
        !number(word(&rest), &series->noise) || !number(word(&rest), &series->repeat) ||
        !read_end(word(&rest), &series->until) || !number(rest, &none) || none < 1)
        return 0;
    series->reading = (enum reading)which;
    series->apply = (enum apply)apply;
    series->none = (answer_t)none;
    series->first = scene->points;
    scene->has_series[which] = 1;
    scene->series_count++;
    return 1;
}

/* The next point of the last series; with what has come together on the way to it. */
static int read_point(char *rest)
{
    struct series *series = &scene->series[scene->series_count - 1];
    struct point *point = &scene->point[scene->points], *before = point - 1;
    if (!scene->series_count || scene->points >= MAX_POINTS || !number(word(&rest), &point->at) || point->at < 0)
        return 0;
    point->none = !strcmp(rest, "-");
    if (!point->none && READING_STEP[series->reading] <= 0) {
        if (scene->texts >= MAX_TEXTS || !*rest || !copied(scene->text[scene->texts], TEXT_BYTES, rest))
            return 0;
        point->value = scene->texts++;
    } else if (!point->none && !number(rest, &point->value)) {
        return 0;
    }
    if (series->points++) {
        double length = point->at - before->at, value = point->none || series->step ? before->value : point->value;
        if (length < 0 || (series->repeat > 0 && point->at - scene->point[series->first].at >= series->repeat))
            return 0;
        if (point->none)
            point->value = before->value; /* what a counter has counted stays so */
        point->sum = before->sum + (before->none ? 0 : (before->value + value) / 2 * length);
        point->grown = before->grown + (point->value > before->value ? point->value - before->value : 0);
    } else {
        point->grown = point->value > 0 ? point->value : 0;
    }
    scene->points++;
    return 1;
}

static int read_load(char *rest)
{
    int n = scene->loads;
    if (n >= MAX_LOADS || !number(word(&rest), &scene->schedule[n].at) || !number(rest, &scene->schedule[n].load))
        return 0;
    scene->loads++;
    return n == 0 || scene->schedule[n - 1].at <= scene->schedule[n].at;
}

static int read_init(const char *text)
{
    static const char *const WORDS[] = {"ok", "driver_not_loaded", "version_mismatch", "no_permission", "hang"};
    static const int ANSWERS[] = {OK, DRIVER_NOT_LOADED, VERSION_MISMATCH, NO_PERMISSION, -1};
    int found = one_of(text, WORDS, 5);
    scene->init = found < 0 ? 0 : ANSWERS[found];
    return found >= 0;
}

static int read_line(char *line)
{
    char *rest = line;
    const char *key = word(&rest);
    const struct { const char *key; char *into; size_t size; } TEXTS[] = {
        {"name", scene->name, sizeof scene->name}, {"driver", scene->driver, sizeof scene->driver},
        {"nvml", scene->nvml, sizeof scene->nvml}, {"kmsg", scene->kmsg, sizeof scene->kmsg},
    };
    for (size_t n = 0; n < sizeof TEXTS / sizeof *TEXTS; n++)
        if (!strcmp(key, TEXTS[n].key))
            return copied(TEXTS[n].into, TEXTS[n].size, rest);
    if (!strcmp(key, "seed"))
        return number(rest, &scene->seed) && scene->seed >= 0;
    if (!strcmp(key, "cuda"))
        return number(rest, &scene->cuda);
    if (!strcmp(key, "init"))
        return read_init(rest);
    if (!strcmp(key, "load"))
        return read_load(rest);
    if (!strcmp(key, "load_file"))
        return copied(scene->load_file, sizeof scene->load_file, word(&rest)) && number(rest, &scene->load);
    if (!strcmp(key, "jobs"))
        return copied(scene->jobs, sizeof scene->jobs, rest);
    if (!strcmp(key, "follow"))
        return scene->follows = 1;
    if (!strcmp(key, "series"))
        return read_series(rest);
    if (!strcmp(key, "point"))
        return read_point(rest);
    if (!strcmp(key, "gpu"))
        return read_gpu(rest);
    if (!strcmp(key, "card"))
        return scene->cards > 0 && read_card(rest);
    return !strcmp(key, "fault") && read_fault(rest);
}

int scenario_read(struct scenario *into, char *text)
{
    int line = 0;
    scene = into;
    memset(scene, 0, sizeof *scene);
    copied(scene->kmsg, sizeof scene->kmsg, "/dev/kmsg");
    copied(scene->driver, sizeof scene->driver, "0");
    copied(scene->nvml, sizeof scene->nvml, "0");
    scene->load = 0.9;
    for (char *at = text, *end; at && *at; at = end) {
        end = strchr(at, '\n');
        if (end)
            *end++ = 0;
        if (++line == 1 ? strcmp(at, "shakedown-nvml-standin 2") : *at && *at != '#' && !read_line(at))
            return bad(line, line == 1 ? "not a scenario of format 2" : "not understood");
    }
    for (int n = 0; n < scene->series_count; n++)
        if (!scene->series[n].points)
            return bad(line, "a series without points");
    return line ? OK : bad(1, "empty");
}
