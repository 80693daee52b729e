/* SPDX-License-Identifier: Apache-2.0
 *
 * The NVML stand-in's functions about errors of memory and links, and nvmlDeviceGetFieldValues.
 */
#include "nvml_standin.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- errors of memory and links ---------------------------------------------------------------------------- */

static const char *const PLACES[LOCATIONS] = {"l1", "l2", "dram", "register", "texture", "shared", "cbu", "sram"};
static const char *const SORTS[] = {"corrected", "uncorrected"};

static double ecc(const struct look *look, unsigned sort, unsigned place)
{
    char what[40];
    snprintf(what, sizeof what, "%s %s", PLACES[place], SORTS[sort]);
    return amount(ECC, look->gpu, look->now, what);
}

static double ecc_total(const struct look *look, unsigned sort)
{
    double sum = 0;
    for (unsigned place = 0; place < LOCATIONS; place++)
        sum += ecc(look, sort, place);
    return sum;
}

API answer_t nvmlDeviceGetTotalEccErrors(device_t device, unsigned sort, unsigned counter, u64 *out)
{
    ENTER;
    if (sort > 1 || counter > 1)
        return INVALID_ARGUMENT;
    *out = (u64)ecc_total(&look, sort);
    return look.card->ecc ? OK : NOT_SUPPORTED;
}

API answer_t nvmlDeviceGetMemoryErrorCounter(device_t device, unsigned sort, unsigned counter, unsigned place, u64 *out)
{
    ENTER;
    if (sort > 1 || counter > 1 || place >= LOCATIONS)
        return INVALID_ARGUMENT;
    *out = (u64)ecc(&look, sort, place);
    return look.card->ecc ? OK : NOT_SUPPORTED;
}

API answer_t nvmlDeviceGetEccMode(device_t device, unsigned *current, unsigned *pending)
{
    ENTER;
    if (look.card->ecc < 0)
        return NOT_SUPPORTED;
    *current = (unsigned)look.card->ecc;
    *pending = (unsigned)look.card->ecc_pending;
    return OK;
}

ONE(nvmlDeviceGetDefaultEccMode, unsigned, 1)

struct sram { unsigned version; u64 life[3], since[3], unit[5]; unsigned exceeded; };

API answer_t nvmlDeviceGetSramEccErrorStatus(device_t device, struct sram *out)
{
    ENTER;
    if (out->version != (sizeof *out | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    if (look.card->ecc <= 0)
        return NOT_SUPPORTED;
    *out = (struct sram){.version = out->version, .exceeded = look.card->sram_exceeded > 0};
    return OK;
}

static double grown(const struct look *look, enum kind kind, const char *what)
{
    return amount(kind, look->gpu, look->now, what);
}

API answer_t nvmlDeviceGetRemappedRows(device_t device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                                       unsigned *failure)
{
    ENTER;
    if (look.card->remap_banks <= 0)
        return NOT_SUPPORTED;
    *corrected = (unsigned)grown(&look, REMAP, "corrected");
    *uncorrected = (unsigned)grown(&look, REMAP, "uncorrected");
    *pending = grown(&look, REMAP, "pending") > 0;
    *failure = grown(&look, REMAP, "failure") > 0;
    return OK;
}

struct histogram { unsigned max, high, partial, low, none; };

API answer_t nvmlDeviceGetRowRemapperHistogram(device_t device, struct histogram *out)
{
    ENTER;
    unsigned banks = (unsigned)look.card->remap_banks, spent = (unsigned)grown(&look, REMAP, "uncorrected");
    if (!banks)
        return NOT_SUPPORTED;
    memset(out, 0, sizeof *out);
    out->max = banks > spent ? banks - spent : 0;
    out->high = banks - out->max;
    return OK;
}

API answer_t nvmlDeviceGetRetiredPages(device_t device, unsigned cause, unsigned *count, u64 *out)
{
    ENTER;
    if (cause > 1)
        return INVALID_ARGUMENT;
    if (look.card->remap_banks > 0)
        return NOT_SUPPORTED; /* a card that remaps rows retires no pages */
    unsigned room = *count, there = *count = (unsigned)grown(&look, RETIRED, cause ? "double" : "single");
    if (there > room || (there && !out))
        return INSUFFICIENT_SIZE;
    for (unsigned n = 0; n < there; n++)
        out[n] = hashed((u64)look.gpu * 1000 + cause * 500 + n) & 0xfffff000;
    return OK;
}

API answer_t nvmlDeviceGetRetiredPages_v2(device_t device, unsigned cause, unsigned *count, u64 *out, u64 *when)
{
    answer_t answer = nvmlDeviceGetRetiredPages(device, cause, count, out);
    for (unsigned n = 0; answer == OK && when && n < *count; n++)
        when[n] = (u64)time(NULL);
    return answer;
}

API answer_t nvmlDeviceGetRetiredPagesPendingStatus(device_t device, unsigned *out)
{
    ENTER;
    *out = grown(&look, RETIRED, "pending") > 0;
    return look.card->remap_banks > 0 ? NOT_SUPPORTED : OK;
}

/* Sum over faults "LINK COUNTER" of one link, or of all (link < 0). */
static double link_errors(const struct look *look, int link, const char *counter)
{
    char what[48];
    double sum = 0;
    for (int n = 0; n < (int)look->card->nvlinks; n++)
        if ((link < 0 || link == n) && snprintf(what, sizeof what, "%d %s", n, counter) > 0)
            sum += amount(NVLINK, look->gpu, look->now, what);
    return sum;
}

API answer_t nvmlDeviceGetNvLinkState(device_t device, unsigned link, unsigned *out)
{
    ENTER;
    if (link >= (unsigned)look.card->nvlinks)
        return look.card->nvlinks > 0 ? INVALID_ARGUMENT : NOT_SUPPORTED;
    *out = 1;
    int from = 0;
    for (const struct fault *fault; (fault = active(NVLINK_DOWN, look.gpu, look.now, &from));)
        if ((unsigned)fault->value == link)
            *out = 0;
    return OK;
}

static const char *const LINK_COUNTERS[] = {"replay", "recovery", "crc", "data_crc"};

API answer_t nvmlDeviceGetNvLinkErrorCounter(device_t device, unsigned link, unsigned counter, u64 *out)
{
    ENTER;
    if (link >= (unsigned)look.card->nvlinks)
        return look.card->nvlinks > 0 ? INVALID_ARGUMENT : NOT_SUPPORTED;
    if (counter > 3)
        return INVALID_ARGUMENT;
    if (look.card->nvlink_version >= 5)
        return NOT_SUPPORTED;
    *out = (u64)link_errors(&look, (int)link, LINK_COUNTERS[counter]);
    return OK;
}

/* --- fields ------------------------------------------------------------------------------------------------ */

struct field {
    uint32_t id, scope;
    int64_t timestamp, latency;
    uint32_t type, answer;
    union { double real; unsigned small; u64 large; int negative; } value;
};

/* One field's value; negative when the card does not offer it. Numbers: NVML_FI_DEV_* of nvml.h. */
static double field_value(const struct look *look, unsigned id, unsigned scope)
{
    const struct card *card = look->card;
    int remaps = card->remap_banks > 0, fifth = card->nvlinks > 0 && card->nvlink_version >= 5;
    int links = card->nvlinks > 0 && !fifth, counts = card->nvlink_version < 4; /* NVLink 4 totals are zero */
    switch (id) {
    case 1: return card->ecc;
    case 2: return card->ecc_pending;
    case 3: case 5: return card->ecc > 0 ? ecc_total(look, 0) : -1;
    case 4: case 6: return card->ecc > 0 ? ecc_total(look, 1) : -1;
    case 29: return remaps ? -1 : grown(look, RETIRED, "single");
    case 30: return remaps ? -1 : grown(look, RETIRED, "double");
    case 31: return remaps ? -1 : grown(look, RETIRED, "pending") > 0;
    case 38: return links ? counts * link_errors(look, -1, "crc") : -1;
    case 45: return links ? counts * link_errors(look, -1, "data_crc") : -1;
    case 52: return links ? counts * link_errors(look, -1, "replay") : -1;
    case 59: return links ? counts * link_errors(look, -1, "recovery") : -1;
    case 82: return look->gauges.memory_temperature + 0.5;
    case 83: return look->gauges.energy * 1000;
    case 91: return card->nvlinks > 0 ? card->nvlinks : -1;
    case 94: return amount(REPLAY, look->gpu, look->now, NULL);
    case 142: return remaps ? grown(look, REMAP, "corrected") : -1;
    case 143: return remaps ? grown(look, REMAP, "uncorrected") : -1;
    case 144: return remaps ? grown(look, REMAP, "pending") > 0 : -1;
    case 145: return remaps ? grown(look, REMAP, "failure") > 0 : -1;
    case 161: case 162: case 163:
        return links && scope < (unsigned)card->nvlinks ? link_errors(look, (int)scope, LINK_COUNTERS[id - 161]) : -1;
    case 185: return look->gauges.average * 1000;
    case 186: return look->gauges.power * 1000;
    case 187: return card->power_min * 1000;
    case 188: return card->power_max * 1000;
    case 189: return card->power_default * 1000;
    case 190: case 192: return card->power_limit * 1000;
    case 196: return card->tlimit ? 0 : -1;
    case 206: case 207: case 209: case 210: case 211: return fifth && scope == UINT32_MAX ? 0 : -1;
    case 208: return fifth && scope == UINT32_MAX ? link_errors(look, -1, "packet") : -1;
    case 230: return card->recovery;
    case 215: return fifth && scope == UINT32_MAX ? link_errors(look, -1, "recovery") : -1;
    default: return -1;
    }
}

API answer_t nvmlDeviceGetFieldValues(device_t device, int count, struct field *fields)
{
    ENTER;
    if (count < 1 || !fields)
        return INVALID_ARGUMENT;
    for (int n = 0; n < count; n++) {
        struct field *field = &fields[n];
        char name[24];
        snprintf(name, sizeof name, "field %u", field->id);
        double value = field_value(&look, field->id, field->scope);
        field->answer = (uint32_t)spoilt(look.gpu, look.now, name);
        if (!field->answer && value < 0)
            field->answer = NOT_SUPPORTED;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        field->timestamp = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
        field->latency = 0;
        field->type = field->id == 83 || field->id < 7 ? 3 : 1; /* unsigned long long, unsigned int */
        field->value.large = 0;
        if (field->type == 3)
            field->value.large = field->answer ? 0 : (u64)value;
        else
            field->value.small = field->answer ? 0 : (unsigned)value;
    }
    return OK;
}
