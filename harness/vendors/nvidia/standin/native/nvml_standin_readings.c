/* SPDX-License-Identifier: Apache-2.0
 *
 * The readings of the NVML stand-in: what the card itself has to say to each, and what series make of it. Every
 * exported function answers by these, whichever of them tells the same thing.
 */
#include "nvml_standin.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const NAMES[READING_COUNT] = {
#define EACH(name, step) #name,
    READINGS(EACH)
#undef EACH
};
const double READING_STEP[READING_COUNT] = {
#define EACH(name, step) step,
    READINGS(EACH)
#undef EACH
};
static const char *const PLACES[LOCATIONS] = {"l1", "l2", "dram", "register", "texture", "shared", "cbu", "sram"};
static const char *const SORTS[] = {"corrected", "uncorrected"};
static const char *const LINK_COUNTERS[] = {"replay", "recovery", "crc", "data_crc", "packet"};
#define DRAM 2

int reading_named(const char *name, size_t length)
{
    for (int n = 0; n < READING_COUNT; n++)
        if (strlen(NAMES[n]) == length && !memcmp(NAMES[n], name, length))
            return n;
    return -1;
}

u64 whole(double value, double step)
{
    double steps = floor(value / step + 0.5);
    if (!(steps > -9.2e18))
        return (u64)INT64_MIN;
    return steps < 0 ? (u64)(int64_t)steps : steps < 1.8e19 ? (u64)steps : UINT64_MAX;
}

static double grown(const struct look *look, enum kind kind, const char *what)
{
    return amount(kind, look->gpu, look->now, what);
}

static unsigned link_now(const struct look *look, enum kind kind, double most, double idle)
{
    int from = 0;
    const struct fault *fault = look->gauges.under_load ? active(kind, look->gpu, look->now, &from) : NULL;
    return (unsigned)(fault ? fault->value : look->gauges.under_load ? most : idle);
}

static double memory_used(const struct look *look)
{
    double bytes = look->card->memory_bytes * (0.01 + 0.5 * look->gauges.busy);
    int from = 0;
    for (const struct fault *fault; (fault = active(PROCESS, look->gpu, look->now, &from));)
        bytes += fault->rate;
    return bytes < look->card->memory_bytes ? bytes : look->card->memory_bytes;
}

static double processes(const struct look *look)
{
    int count = 0, from = 0;
    while (active(PROCESS, look->gpu, look->now, &from))
        count++;
    return count;
}

/* Links that no fault took down. */
static double links_up(const struct look *look)
{
    int count = 0;
    for (int link = 0; link < (int)look->card->nvlinks; link++) {
        int up = 1, from = 0;
        for (const struct fault *fault; (fault = active(NVLINK_DOWN, look->gpu, look->now, &from));)
            up = up && (int)fault->value != link;
        count += up;
    }
    return count;
}

static double ecc_at(const struct look *look, unsigned sort, unsigned place)
{
    char what[40];
    snprintf(what, sizeof what, "%s %s", PLACES[place], SORTS[sort]);
    return grown(look, ECC, what);
}

static double ecc_own(const struct look *look, unsigned sort)
{
    double sum = 0;
    for (unsigned place = 0; place < LOCATIONS; place++)
        sum += ecc_at(look, sort, place);
    return sum;
}

/* Faults "LINK COUNTER" of one link. */
static double link_own(const struct look *look, int link, unsigned counter)
{
    char what[48];
    snprintf(what, sizeof what, "%d %s", link, LINK_COUNTERS[counter]);
    return grown(look, NVLINK, what);
}

static double links_own(const struct look *look, unsigned counter)
{
    double sum = 0;
    for (int link = 0; link < (int)look->card->nvlinks; link++)
        sum += link_own(look, link, counter);
    return sum;
}

static int margin(const struct look *look, double *value)
{
    double limit, heat;
    int answer = reading(look, READ_temperature_gpu_max_tlimit, &limit);
    limit = look->card->gpu_max;
    if (answer == OK && (answer = reading(look, READ_temperature, &heat)) == OK)
        *value = floor(limit) - floor(heat + 0.5);
    return answer;
}

/* What the card says to a reading, were there no series; *value is as good as it gets where it does not say. */
static answer_t own(const struct look *look, enum reading which, double *value)
{
    const struct card *card = look->card;
    const struct gauges *now = &look->gauges;
    int remaps = card->remap_banks > 0, linked = card->nvlinks > 0, fifth = card->nvlink_version >= 5;
    int offered = 1;
    switch (which) {
    case READ_power: *value = now->power; break;
    case READ_energy: *value = now->energy; break;
    case READ_temperature: *value = now->temperature; break;
    case READ_temperature_memory: *value = now->memory_temperature; break;
    case READ_temperature_margin: return margin(look, value);
    case READ_clock_sm: *value = now->sm; break;
    case READ_clock_memory: *value = now->memory_clock; break;
    case READ_util_gpu: *value = 100 * now->busy; break;
    case READ_util_memory: *value = 60 * now->busy; break;
    case READ_pcie_gen: *value = link_now(look, LINK_GEN, card->pcie_gen, card->pcie_gen_idle); break;
    case READ_pcie_width: *value = link_now(look, LINK_WIDTH, card->pcie_width, card->pcie_width); break;
    case READ_reasons: *value = (double)now->reasons; break;
    case READ_memory_used: *value = memory_used(look); break;
    case READ_pcie_replays: *value = grown(look, REPLAY, NULL); break;
    case READ_ecc_corrected: *value = ecc_own(look, 0); offered = card->ecc > 0; break;
    case READ_ecc_uncorrected: *value = ecc_own(look, 1); offered = card->ecc > 0; break;
    case READ_ecc_corrected_aggregate: /* all that ever was, also where the other count began anew */
        *value = ecc_own(look, 0) + series_grown(READ_ecc_corrected, look->gpu, look->now);
        offered = card->ecc > 0;
        break;
    case READ_ecc_uncorrected_aggregate:
        *value = ecc_own(look, 1) + series_grown(READ_ecc_uncorrected, look->gpu, look->now);
        offered = card->ecc > 0;
        break;
    case READ_remap_corrected: *value = grown(look, REMAP, "corrected"); offered = remaps; break;
    case READ_remap_uncorrected: *value = grown(look, REMAP, "uncorrected"); offered = remaps; break;
    case READ_remap_pending: *value = grown(look, REMAP, "pending") > 0; offered = remaps; break;
    case READ_remap_failed: *value = grown(look, REMAP, "failure") > 0; offered = remaps; break;
    case READ_retired_single_bit: *value = grown(look, RETIRED, "single"); offered = !remaps; break;
    case READ_retired_double_bit: *value = grown(look, RETIRED, "double"); offered = !remaps; break;
    case READ_retired_pending: *value = grown(look, RETIRED, "pending") > 0; offered = !remaps; break;
    case READ_nvlink_active: *value = links_up(look); offered = linked; break;
    case READ_nvlink_replay: *value = links_own(look, 0); offered = linked && !fifth; break;
    case READ_nvlink_recovery: *value = links_own(look, 1); offered = linked; break;
    case READ_nvlink_crc: *value = links_own(look, 2) + links_own(look, 3); offered = linked && !fifth; break;
    case READ_nvlink_errors: *value = links_own(look, 4); offered = linked && fifth; break;
    case READ_recovery_action: *value = card->recovery; break;
    case READ_processes: *value = processes(look); break;
    case READ_power_limit: *value = card->power_limit; break;
    case READ_power_limit_default: *value = card->power_default; break;
    case READ_power_limit_min: *value = card->power_min; break;
    case READ_power_limit_max: *value = card->power_max; break;
    case READ_temperature_slowdown: *value = card->slowdown; offered = card->tlimit <= 0; break;
    case READ_temperature_shutdown: *value = card->shutdown; offered = card->tlimit <= 0; break;
    case READ_temperature_gpu_max: *value = card->gpu_max; offered = card->tlimit <= 0; break;
    case READ_temperature_memory_max: *value = card->memory_max; offered = card->tlimit <= 0; break;
    case READ_temperature_gpu_max_tlimit: *value = 0; offered = card->tlimit > 0; break;
    case READ_clock_sm_max: case READ_clock_sm_application: *value = card->sm_peak; break;
    case READ_clock_memory_max: case READ_clock_memory_application: *value = card->memory_clock_peak; break;
    case READ_pcie_max_gen: *value = card->pcie_gen; break;
    case READ_pcie_max_width: *value = card->pcie_width; break;
    case READ_ecc_current: *value = card->ecc; offered = card->ecc >= 0; break;
    case READ_ecc_pending: *value = card->ecc_pending; offered = card->ecc >= 0; break;
    case READ_ecc_default: *value = 1; offered = card->ecc >= 0; break;
    case READ_sram_exceeded: *value = card->sram_exceeded > 0; offered = card->ecc > 0; break;
    case READ_persistence: *value = card->persistence; break;
    case READ_mig: *value = card->mig; offered = card->mig >= 0; break;
    case READ_mig_pending: *value = card->mig_pending; offered = card->mig >= 0; break;
    case READ_nvlink_links: *value = card->nvlinks; offered = linked; break;
    case READ_memory_bytes: *value = card->memory_bytes; break;
    case READ_fan_speed: *value = 30 + 60 * now->busy; offered = card->fans > 0; break;
    case READ_pcie_tx: case READ_pcie_rx: *value = 40000 * now->busy; break; /* KB/s; of a load that computes */
    case READ_pstate: *value = now->under_load ? 0 : 8; break;
    case READ_load: *value = now->demand; break;
    case READ_ambient: *value = card->ambient; break;
    default: *value = 0; break; /* coders that nobody uses, and what only a series sets */
    }
    return offered ? OK : NOT_SUPPORTED;
}

answer_t reading(const struct look *look, enum reading which, double *value)
{
    answer_t answer = own(look, which, value);
    return series_over(which, look->gpu, look->now, answer, value);
}

answer_t told(const struct look *look, enum reading which, double step, u64 *out)
{
    double value = 0;
    answer_t answer = reading(look, which, &value);
    *out = whole(value, step);
    return answer;
}

/* A counter of one link. What a series adds to the sum of all links is the first one's. */
answer_t link_reading(const struct look *look, int link, unsigned counter, double *value)
{
    static const enum reading SUMS[] = {READ_nvlink_replay, READ_nvlink_recovery, READ_nvlink_crc};
    enum reading which = counter > 2 ? READ_nvlink_crc : SUMS[counter];
    answer_t answer = reading(look, which, value);
    if (link || counter > 2) {
        *value = link_own(look, link, counter);
        return answer;
    }
    for (int n = 1; n < (int)look->card->nvlinks; n++)
        *value -= link_own(look, n, counter);
    if (which == READ_nvlink_crc)
        *value -= links_own(look, 3);
    return answer;
}

/* Errors of one kind of memory. What a series adds to the sum of all kinds is the DRAM's. */
answer_t ecc_reading(const struct look *look, unsigned sort, unsigned counter, unsigned place, double *value)
{
    static const enum reading SUMS[2][2] = {{READ_ecc_corrected, READ_ecc_corrected_aggregate},
                                            {READ_ecc_uncorrected, READ_ecc_uncorrected_aggregate}};
    answer_t answer = reading(look, SUMS[sort][counter], value);
    if (place == DRAM)
        *value -= ecc_own(look, sort) - ecc_at(look, sort, place);
    else if (place < LOCATIONS)
        *value = ecc_at(look, sort, place);
    return answer;
}

const char *words_of(const struct look *look, enum reading which, answer_t *answer)
{
    const struct card *card = look->card;
    const char *own = which == READ_uuid     ? card->uuid
                      : which == READ_serial ? card->serial
                      : which == READ_name   ? card->name
                                             : card->vbios;
    return series_text(which, look->gpu, look->now, own, answer);
}
