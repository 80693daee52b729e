/* SPDX-License-Identifier: Apache-2.0
 *
 * What the NVML stand-in offers beyond NVML: its name, what is wrong with a scenario, and a time that the caller
 * turns, so that hours of readings can be had in seconds (tests/native/played.py shows how).
 *
 *     shakedownStandinSetTime(0)        before nvmlInit: this process' time begins at 0 and passes by calls only
 *     shakedownStandinSetTime(12.5)     later, never back: the GPUs live up to that second
 *     shakedownStandinRecord(...)       many rows of readings at once
 *
 * A hang then takes its seconds of that time, and one without an end answers NVML_ERROR_TIMEOUT.
 */
#include "nvml_standin.h"

#include <math.h>
#include <string.h>

API const char *shakedownStandinScenario(void)
{
    return world()->name;
}

API const char *shakedownStandinProblem(void)
{ /* why nvmlInit did not take the scenario; empty when it did */
    return world()->problem;
}

API answer_t shakedownStandinSetTime(double seconds)
{
    if (!isfinite(seconds) || seconds < 0 || (world_open_now() && (!clock_turned() || seconds < clock_now())))
        return INVALID_ARGUMENT;
    clock_set(seconds);
    return OK;
}

/* `count` rows of readings (names with spaces between) of all GPUs, `step` seconds apart and the first one now:
 * out[count][GPUs][readings], in the units of harness/telemetry/gpu/series.py and as finely as NVML tells them; NaN where
 * a call would fail. The time has then moved on by count * step. Needs a time that this process turns. */
API answer_t shakedownStandinRecord(const char *names, double step, unsigned count, double *out)
{
    enum reading wanted[READING_COUNT];
    int readings = 0;
    if (!world_open_now() || !clock_own() || !names || !out || !(step > 0) || !isfinite(step))
        return INVALID_ARGUMENT;
    for (const char *name = names + strspn(names, " "); *name; name += strspn(name, " ")) {
        size_t length = strcspn(name, " ");
        int found = reading_named(name, length);
        if (found < 0 || READING_STEP[found] <= 0 || readings >= READING_COUNT)
            return INVALID_ARGUMENT;
        wanted[readings++] = (enum reading)found;
        name += length;
    }
    double began = clock_now();
    for (unsigned row = 0; row < count; clock_set(began + ++row * step))
        for (int gpu = 0; gpu < world()->cards; gpu++) {
            struct look look = {.gpu = gpu, .card = &world()->card[gpu]};
            look.now = world_at(gpu, &look.gauges);
            int from = 0, gone = active(VANISH, gpu, look.now, &from) != NULL;
            for (int n = 0; n < readings; n++) {
                double value = 0, parts = floor(1 / READING_STEP[wanted[n]] + 0.5); /* of one of our units */
                answer_t answer = gone ? GPU_IS_LOST : reading(&look, wanted[n], &value);
                *out++ = answer ? NAN : floor(value * parts + 0.5) / parts;
            }
        }
    return OK;
}
