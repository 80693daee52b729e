/* SPDX-License-Identifier: Apache-2.0
 *
 * The NVML stand-in's functions about errors of memory and links, and nvmlDeviceGetFieldValues.
 */
#include "nvml_standin.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- errors of memory and links ---------------------------------------------------------------------------- */

static answer_t ecc_out(const struct look *look, unsigned sort, unsigned counter, unsigned place, u64 *out)
{
    double value;
    if (sort > 1 || counter > 1 || !out)
        return INVALID_ARGUMENT;
    answer_t answer = ecc_reading(look, sort, counter, place, &value);
    *out = whole(value > 0 ? value : 0, 1);
    return answer;
}

API answer_t nvmlDeviceGetTotalEccErrors(device_t device, unsigned sort, unsigned counter, u64 *out)
{
    ENTER;
    return ecc_out(&look, sort, counter, LOCATIONS, out);
}

API answer_t nvmlDeviceGetMemoryErrorCounter(device_t device, unsigned sort, unsigned counter, unsigned place, u64 *out)
{
    ENTER;
    return place >= LOCATIONS ? INVALID_ARGUMENT : ecc_out(&look, sort, counter, place, out);
}

TWO(nvmlDeviceGetEccMode, READ_ecc_current, READ_ecc_pending, 1)
ONE(nvmlDeviceGetDefaultEccMode, unsigned, READ_ecc_default, 1)

struct sram { unsigned version; u64 life[3], since[3], unit[5]; unsigned exceeded; };

API answer_t nvmlDeviceGetSramEccErrorStatus(device_t device, struct sram *out)
{
    ENTER;
    if (out->version != (sizeof *out | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    *out = (struct sram){.version = out->version};
    GIVE(out->exceeded, READ_sram_exceeded, 1);
    return OK;
}

API answer_t nvmlDeviceGetRemappedRows(device_t device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                                       unsigned *failure)
{
    ENTER;
    GIVE(*corrected, READ_remap_corrected, 1);
    GIVE(*uncorrected, READ_remap_uncorrected, 1);
    GIVE(*pending, READ_remap_pending, 1);
    GIVE(*failure, READ_remap_failed, 1);
    return OK;
}

struct histogram { unsigned max, high, partial, low, none; };

API answer_t nvmlDeviceGetRowRemapperHistogram(device_t device, struct histogram *out)
{
    ENTER;
    unsigned banks = (unsigned)look.card->remap_banks, spent;
    if (!banks)
        return NOT_SUPPORTED;
    GIVE(spent, READ_remap_uncorrected, 1);
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
    unsigned room = *count, there;
    GIVE(there, cause ? READ_retired_double_bit : READ_retired_single_bit, 1);
    *count = there;
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

ONE(nvmlDeviceGetRetiredPagesPendingStatus, unsigned, READ_retired_pending, 1)

/* Whether the card has such a link, and if not, what it answers. */
static answer_t link_there(const struct look *look, unsigned link)
{
    double links;
    answer_t answer = reading(look, READ_nvlink_links, &links);
    return answer ? answer : link < links ? OK : INVALID_ARGUMENT;
}

API answer_t nvmlDeviceGetNvLinkState(device_t device, unsigned link, unsigned *out)
{
    ENTER;
    double links, up;
    if ((failed = link_there(&look, link)) || (failed = reading(&look, READ_nvlink_active, &up)))
        return failed;
    int from = 0, down = 0, taken = 0;
    for (const struct fault *fault; (fault = active(NVLINK_DOWN, look.gpu, look.now, &from)); taken++)
        down = down || (unsigned)fault->value == link;
    /* A series says how many are up, not which: the first ones, as far as no fault has taken one of them. */
    failed = reading(&look, READ_nvlink_links, &links);
    *out = world()->has_series[READ_nvlink_active] && up != links - taken ? link < up : !down;
    return failed;
}

API answer_t nvmlDeviceGetNvLinkErrorCounter(device_t device, unsigned link, unsigned counter, u64 *out)
{
    ENTER;
    double value;
    if ((failed = link_there(&look, link)))
        return failed;
    if (counter > 3)
        return INVALID_ARGUMENT;
    if (look.card->nvlink_version >= 5)
        return NOT_SUPPORTED;
    failed = link_reading(&look, (int)link, counter, &value);
    *out = whole(value > 0 ? value : 0, 1);
    return failed;
}

/* --- fields ------------------------------------------------------------------------------------------------ */

struct field {
    uint32_t id, scope;
    int64_t timestamp, latency;
    uint32_t type, answer;
    union { double real; unsigned small; u64 large; int negative; } value;
};

/* Fields that are a reading, in steps of NVML's unit. Numbers: NVML_FI_DEV_* of nvml.h. */
static const struct { unsigned id; enum reading reading; double step; } FIELDS[] = {
    {1, READ_ecc_current, 1}, {2, READ_ecc_pending, 1}, {3, READ_ecc_corrected, 1}, {4, READ_ecc_uncorrected, 1},
    {5, READ_ecc_corrected_aggregate, 1}, {6, READ_ecc_uncorrected_aggregate, 1}, {29, READ_retired_single_bit, 1},
    {30, READ_retired_double_bit, 1}, {31, READ_retired_pending, 1}, {82, READ_temperature_memory, 1},
    {83, READ_energy, .001}, {91, READ_nvlink_links, 1}, {94, READ_pcie_replays, 1}, {142, READ_remap_corrected, 1},
    {143, READ_remap_uncorrected, 1}, {144, READ_remap_pending, 1}, {145, READ_remap_failed, 1},
    {186, READ_power, .001}, {187, READ_power_limit_min, .001}, {188, READ_power_limit_max, .001},
    {189, READ_power_limit_default, .001}, {190, READ_power_limit, .001}, {192, READ_power_limit, .001},
    {196, READ_temperature_gpu_max_tlimit, 1}, {230, READ_recovery_action, 1},
};

static answer_t links_out(const struct look *look, enum reading which, int counts, u64 *out)
{
    answer_t answer = told(look, which, 1, out);
    *out = counts ? *out : 0;
    return answer;
}

static answer_t field_value(const struct look *look, unsigned id, unsigned scope, u64 *out)
{
    const struct card *card = look->card;
    int fifth = card->nvlink_version >= 5, counts = card->nvlink_version < 4; /* NVLink 4 totals are zero */
    double value;
    answer_t answer;
    for (size_t n = 0; n < sizeof FIELDS / sizeof *FIELDS; n++)
        if (FIELDS[n].id == id)
            return told(look, FIELDS[n].reading, FIELDS[n].step, out);
    switch (id) {
    case 38: return links_out(look, READ_nvlink_crc, counts, out);
    case 45: return links_out(look, READ_nvlink_crc, 0, out); /* both kinds are told by 38 */
    case 52: return links_out(look, READ_nvlink_replay, counts, out);
    case 59: return fifth ? NOT_SUPPORTED : links_out(look, READ_nvlink_recovery, counts, out);
    case 161: case 162: case 163:
        if (fifth || link_there(look, scope))
            return NOT_SUPPORTED;
        answer = link_reading(look, (int)scope, id - 161, &value);
        *out = whole(value > 0 ? value : 0, 1);
        return answer;
    case 185:
        value = look->gauges.average;
        answer = series_over(READ_power, look->gpu, look->now, OK, &value);
        *out = whole(value, .001);
        return answer;
    case 206: case 207: case 209: case 210: case 211:
        return scope == UINT32_MAX ? links_out(look, READ_nvlink_errors, 0, out) : NOT_SUPPORTED;
    case 208: return scope == UINT32_MAX ? links_out(look, READ_nvlink_errors, 1, out) : NOT_SUPPORTED;
    case 215: return fifth && scope == UINT32_MAX ? links_out(look, READ_nvlink_recovery, 1, out) : NOT_SUPPORTED;
    default: return NOT_SUPPORTED;
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
        u64 value = 0;
        snprintf(name, sizeof name, "field %u", field->id);
        answer_t answer = spoilt(look.gpu, look.now, name);
        if (!answer)
            answer = field_value(&look, field->id, field->scope, &value);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        field->answer = (uint32_t)answer;
        field->timestamp = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
        field->latency = 0;
        field->type = field->id == 83 || field->id < 7 ? 3 : 1; /* unsigned long long, unsigned int */
        field->value.large = 0;
        if (field->type == 3)
            field->value.large = answer ? 0 : value;
        else
            field->value.small = answer ? 0 : (unsigned)value;
    }
    return OK;
}
