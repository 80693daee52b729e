/* SPDX-License-Identifier: Apache-2.0
 *
 * The NVML stand-in's functions about what a card does at this moment: power, heat, clocks, use, link.
 */
#include "nvml_standin.h"

#include <stddef.h>

#define SHARE(factor) (100 * (factor) * look.gauges.busy + 0.5)

static unsigned link_now(const struct look *look, enum kind kind, double most, double idle)
{
    int from = 0;
    const struct fault *fault = look->gauges.under_load ? active(kind, look->gpu, look->now, &from) : NULL;
    return (unsigned)(fault ? fault->value : look->gauges.under_load ? most : idle);
}

ONE(nvmlDeviceGetPowerUsage, unsigned, look.gauges.average * 1000)
ONE(nvmlDeviceGetTotalEnergyConsumption, u64, look.gauges.energy * 1000)
ONE(nvmlDeviceGetPowerManagementLimit, unsigned, look.card->power_limit * 1000)
ONE(nvmlDeviceGetEnforcedPowerLimit, unsigned, look.card->power_limit * 1000)
ONE(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, look.card->power_default * 1000)
TWO(nvmlDeviceGetPowerManagementLimitConstraints, look.card->power_min * 1000, look.card->power_max * 1000)
ONE(nvmlDeviceGetCurrentClocksEventReasons, u64, look.gauges.reasons)
ONE(nvmlDeviceGetCurrentClocksThrottleReasons, u64, look.gauges.reasons)
ONE(nvmlDeviceGetSupportedClocksEventReasons, u64, 0x1ff)
TWO(nvmlDeviceGetEncoderUtilization, 0, 167000)
TWO(nvmlDeviceGetDecoderUtilization, 0, 167000)
ONE(nvmlDeviceGetPersistenceMode, unsigned, look.card->persistence)
ONE(nvmlDeviceGetComputeMode, unsigned, 0)
ONE(nvmlDeviceGetPerformanceState, unsigned, look.gauges.under_load ? 0 : 8)
ONE(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, link_now(&look, LINK_GEN, look.card->pcie_gen, look.card->pcie_gen_idle))
ONE(nvmlDeviceGetCurrPcieLinkWidth, unsigned, link_now(&look, LINK_WIDTH, look.card->pcie_width, look.card->pcie_width))
ONE(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, look.card->pcie_gen)
ONE(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned, look.card->pcie_gen)
ONE(nvmlDeviceGetMaxPcieLinkWidth, unsigned, look.card->pcie_width)
ONE(nvmlDeviceGetPcieReplayCounter, unsigned, amount(REPLAY, look.gpu, look.now, NULL))

API answer_t nvmlDeviceGetMigMode(device_t device, unsigned *current, unsigned *pending)
{
    ENTER;
    if (look.card->mig < 0)
        return NOT_SUPPORTED;
    *current = (unsigned)look.card->mig;
    *pending = (unsigned)look.card->mig_pending;
    return OK;
}

struct utilization { unsigned gpu, memory; };

API answer_t nvmlDeviceGetUtilizationRates(device_t device, struct utilization *out)
{
    ENTER;
    out->gpu = (unsigned)SHARE(1);
    out->memory = (unsigned)SHARE(0.6);
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
    *count = *rate = *latency = 0;
    return OK;
}

API answer_t nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *out)
{
    ENTER;
    if (sensor)
        return INVALID_ARGUMENT;
    *out = (unsigned)(look.gauges.temperature + 0.5);
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
    out->degrees = (int)(look.gauges.temperature + 0.5);
    return OK;
}

API answer_t nvmlDeviceGetTemperatureThreshold(device_t device, unsigned which, unsigned *out)
{
    ENTER;
    const double limits[] = {look.card->shutdown, look.card->slowdown, look.card->memory_max, look.card->gpu_max};
    if (which > 3)
        return which > 7 ? INVALID_ARGUMENT : NOT_SUPPORTED;
    if (look.card->tlimit)
        return NOT_SUPPORTED;
    *out = (unsigned)limits[which];
    return OK;
}

struct margin { unsigned version; int degrees; };

API answer_t nvmlDeviceGetMarginTemperature(device_t device, struct margin *out)
{
    ENTER;
    if (out->version != (sizeof *out | 1u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    out->degrees = (int)look.card->gpu_max - (int)(look.gauges.temperature + 0.5);
    return look.card->tlimit ? OK : NOT_SUPPORTED;
}

static answer_t clock_out(double memory, double video, double other, unsigned type, unsigned *out)
{
    if (type > 3)
        return INVALID_ARGUMENT;
    *out = (unsigned)(type == 2 ? memory : type == 3 ? video : other);
    return OK;
}

API answer_t nvmlDeviceGetClockInfo(device_t device, unsigned type, unsigned *out)
{
    ENTER;
    return clock_out(look.gauges.memory_clock, look.gauges.sm * 0.9, look.gauges.sm, type, out);
}

API answer_t nvmlDeviceGetMaxClockInfo(device_t device, unsigned type, unsigned *out)
{
    ENTER;
    const struct card *card = look.card;
    return clock_out(card->memory_clock_peak, card->sm_peak * 0.9, card->sm_peak, type, out);
}
