/* SPDX-License-Identifier: Apache-2.0
 *
 * The NVML stand-in's functions about what a card does at this moment: power, heat, clocks, use, link.
 */
#include "nvml_standin.h"

#include <math.h>

ONE(nvmlDeviceGetTotalEnergyConsumption, u64, READ_energy, .001)
ONE(nvmlDeviceGetPowerManagementLimit, unsigned, READ_power_limit, .001)
ONE(nvmlDeviceGetEnforcedPowerLimit, unsigned, READ_power_limit, .001)
ONE(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, READ_power_limit_default, .001)
TWO(nvmlDeviceGetPowerManagementLimitConstraints, READ_power_limit_min, READ_power_limit_max, .001)
ONE(nvmlDeviceGetCurrentClocksEventReasons, u64, READ_reasons, 1)
ONE(nvmlDeviceGetCurrentClocksThrottleReasons, u64, READ_reasons, 1)
FIXED(nvmlDeviceGetSupportedClocksEventReasons, u64, 0x1ff)
FIXED(nvmlDeviceGetSupportedClocksThrottleReasons, u64, 0x1ff)
ONE(nvmlDeviceGetPersistenceMode, unsigned, READ_persistence, 1)
FIXED(nvmlDeviceGetComputeMode, unsigned, 0)
FIXED(nvmlDeviceGetDisplayMode, unsigned, 0)
FIXED(nvmlDeviceGetDisplayActive, unsigned, 0)
ONE(nvmlDeviceGetPerformanceState, unsigned, READ_pstate, 1)
ONE(nvmlDeviceGetPowerState, unsigned, READ_pstate, 1)
ONE(nvmlDeviceGetFanSpeed, unsigned, READ_fan_speed, 1)
ONE(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, READ_pcie_gen, 1)
ONE(nvmlDeviceGetCurrPcieLinkWidth, unsigned, READ_pcie_width, 1)
ONE(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, READ_pcie_max_gen, 1)
ONE(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned, READ_pcie_max_gen, 1)
ONE(nvmlDeviceGetMaxPcieLinkWidth, unsigned, READ_pcie_max_width, 1)
ONE(nvmlDeviceGetPcieReplayCounter, unsigned, READ_pcie_replays, 1)
TWO(nvmlDeviceGetMigMode, READ_mig, READ_mig_pending, 1)

API answer_t nvmlDeviceGetPowerUsage(device_t device, unsigned *out)
{ /* an average of a second, where no series says what the power is */
    ENTER;
    double value = look.gauges.average;
    if (!out)
        return INVALID_ARGUMENT;
    failed = series_over(READ_power, look.gpu, look.now, OK, &value);
    *out = (unsigned)whole(value, .001);
    return failed;
}

#define CODER(name, which)                                                       \
    API answer_t name(device_t device, unsigned *used, unsigned *period)         \
    {                                                                            \
        ENTER;                                                                   \
        if (!used || !period)                                                    \
            return INVALID_ARGUMENT;                                             \
        *period = 167000; /* microseconds */                                     \
        GIVE(*used, which, 1);                                                   \
        return OK;                                                               \
    }
CODER(nvmlDeviceGetEncoderUtilization, READ_util_encoder)
CODER(nvmlDeviceGetDecoderUtilization, READ_util_decoder)

struct utilization { unsigned gpu, memory; };

API answer_t nvmlDeviceGetUtilizationRates(device_t device, struct utilization *out)
{
    ENTER;
    GIVE(out->gpu, READ_util_gpu, 1);
    GIVE(out->memory, READ_util_memory, 1);
    return OK;
}

API answer_t nvmlDeviceGetPcieThroughput(device_t device, unsigned counter, unsigned *out)
{
    ENTER;
    if (counter > 1)
        return INVALID_ARGUMENT;
    GIVE(*out, counter ? READ_pcie_rx : READ_pcie_tx, 1);
    return OK;
}

API answer_t nvmlDeviceGetEncoderSessions(device_t device, unsigned *count, void *out)
{
    ENTER;
    (void)out;
    *count = 0;
    return OK;
}

API answer_t nvmlDeviceGetEncoderStats(device_t device, unsigned *count, unsigned *rate, unsigned *latency)
{
    ENTER;
    *rate = *latency = 0;
    GIVE(*count, READ_encoder_sessions, 1);
    return OK;
}

API answer_t nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *out)
{
    ENTER;
    if (sensor)
        return INVALID_ARGUMENT;
    GIVE(*out, READ_temperature, 1);
    return OK;
}

struct temperature { unsigned version, sensor; int degrees; };

API answer_t nvmlDeviceGetTemperatureV(device_t device, struct temperature *out)
{
    ENTER;
    if (out->version != (sizeof *out | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    if (out->sensor)
        return INVALID_ARGUMENT;
    GIVE(out->degrees, READ_temperature, 1);
    return OK;
}

API answer_t nvmlDeviceGetTemperatureThreshold(device_t device, unsigned which, unsigned *out)
{
    ENTER;
    static const enum reading LIMITS[] = {READ_temperature_shutdown, READ_temperature_slowdown,
                                          READ_temperature_memory_max, READ_temperature_gpu_max};
    if (which > 3)
        return which > 7 ? INVALID_ARGUMENT : NOT_SUPPORTED;
    GIVE(*out, LIMITS[which], 1);
    return OK;
}

struct margin { unsigned version; int degrees; };

API answer_t nvmlDeviceGetMarginTemperature(device_t device, struct margin *out)
{
    ENTER;
    if (out->version != (sizeof *out | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    GIVE(out->degrees, READ_temperature_margin, 1);
    return OK;
}

/* A clock by nvmlClockType_t: graphics, SM, memory, video. Graphics and SM are one on these cards. */
static answer_t clock_out(const struct look *look, enum reading sm, enum reading memory, unsigned type, unsigned *out)
{
    double value;
    if (type > 3 || !out)
        return INVALID_ARGUMENT;
    answer_t answer = reading(look, type == 2 ? memory : sm, &value);
    *out = (unsigned)whole(type == 3 ? floor(value * 0.9) : value, 1);
    return answer;
}

API answer_t nvmlDeviceGetClockInfo(device_t device, unsigned type, unsigned *out)
{
    ENTER;
    return clock_out(&look, READ_clock_sm, READ_clock_memory, type, out);
}

API answer_t nvmlDeviceGetMaxClockInfo(device_t device, unsigned type, unsigned *out)
{
    ENTER;
    return clock_out(&look, READ_clock_sm_max, READ_clock_memory_max, type, out);
}

API answer_t nvmlDeviceGetApplicationsClock(device_t device, unsigned type, unsigned *out)
{
    ENTER;
    return clock_out(&look, READ_clock_sm_application, READ_clock_memory_application, type, out);
}

API answer_t nvmlDeviceGetDefaultApplicationsClock(device_t device, unsigned type, unsigned *out)
{
    ENTER;
    *out = (unsigned)(type == 2 ? look.card->memory_clock_peak : look.card->sm_peak);
    return type > 3 ? INVALID_ARGUMENT : OK;
}

API answer_t nvmlDeviceGetMaxCustomerBoostClock(device_t device, unsigned type, unsigned *out)
{
    return nvmlDeviceGetMaxClockInfo(device, type, out);
}

API answer_t nvmlDeviceGetClock(device_t device, unsigned type, unsigned which, unsigned *out)
{ /* nvmlClockId_t: current, application's, its default, most */
    ENTER;
    switch (which) {
    case 0: return clock_out(&look, READ_clock_sm, READ_clock_memory, type, out);
    case 1: return clock_out(&look, READ_clock_sm_application, READ_clock_memory_application, type, out);
    case 2: return nvmlDeviceGetDefaultApplicationsClock(device, type, out);
    case 3: return clock_out(&look, READ_clock_sm_max, READ_clock_memory_max, type, out);
    default: return INVALID_ARGUMENT;
    }
}
