/* SPDX-License-Identifier: Apache-2.0
 *
 * How a card of the NVML stand-in behaves: power, clocks and heat that follow from its load, ten times a second.
 *
 * It is no physics: a few time constants and slopes, so that readings hang together as those of a card do. Power
 * follows the load (within `ramp` seconds), the clock falls where power, heat, a fault or `clock_cap` ask for it, the
 * chip warms with the power, some of it at once (`quick`) and the rest with its heat sink (`lag`), by what its
 * neighbours in the row add (`neighbour`), and leaks more when hot (`leak`). Cards of one kind differ (`spread`).
 */
#include "nvml_standin.h"

#include <math.h>

#define DRAUGHT 30 /* seconds within which the air changes */
#define RESIDUE 6  /* degrees that an idle card is warmer than its air */

static double between(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* What this card has more or less of than its model, as a factor. */
static double varied(int gpu, unsigned what)
{
    double spread = world()->card[gpu].spread;
    return spread > 0 ? 1 + spread * between(normal(gpu, 0, what), -2.5, 2.5) : 1;
}

static uint64_t throttled(int gpu, double now)
{
    uint64_t reasons = 0;
    int from = 0;
    for (const struct fault *fault; (fault = active(THROTTLE, gpu, now, &from));)
        reasons |= 1ull << (int)fault->value;
    return reasons;
}

static double cause(enum reading which, int gpu, double now, double own)
{
    double value = own;
    return series_over(which, gpu, now, OK, &value) == OK ? value : own;
}

static void towards(double *value, double aim, double seconds)
{
    *value += (aim - *value) * (seconds > TICK ? TICK / seconds : 1);
}

/* Share of its full heat that a card in the row gives off. */
static double warmth(int gpu, const struct gauges *all)
{
    if (gpu < 0 || gpu >= world()->cards)
        return 0;
    const struct card *card = &world()->card[gpu];
    return between((all[gpu].power - card->power_idle) / (card->power_peak - card->power_idle), 0, 1);
}

static void warm(int gpu, double now, uint64_t tick, double load, const struct gauges *all, struct gauges *seen)
{
    const struct card *card = &world()->card[gpu];
    double full = card->rise * varied(gpu, 32), quick = card->quick;
    double heat = full * (seen->power - card->power_idle) / (card->power_peak - card->power_idle);
    double slow = TICK / DRAUGHT; /* the air wanders about its mean, by `draught` degrees */
    seen->draught += card->draught * sqrt(2 * slow) * normal(gpu, tick, 34) - seen->draught * slow;
    double air = cause(READ_ambient, gpu, now, card->ambient) + RESIDUE + seen->draught + amount(HOT, gpu, now, NULL) +
                 card->neighbour * (warmth(gpu - 1, all) + warmth(gpu + 1, all));
    towards(&seen->heat, heat, card->lag);
    if (quick > 0)
        towards(&seen->temperature, air + quick * heat + (1 - quick) * seen->heat, card->lag / 8);
    else
        towards(&seen->temperature, air + heat, card->lag);
    double aim = seen->temperature + card->memory_rise * (0.3 + 0.7 * load) + amount(MEMORY_HOT, gpu, now, NULL);
    towards(&seen->memory_temperature, aim, card->lag / 4);
}

void card_tick(int gpu, double now, uint64_t tick, double load, const struct gauges *all, struct gauges *seen)
{
    const struct card *card = &world()->card[gpu];
    int from = 0;
    if (active(FREEZE, gpu, now, &from) || (from = 0, active(VANISH, gpu, now, &from)))
        return;
    if (load > 0)
        load = between(cause(READ_load, gpu, now, load), 0, 1);
    seen->since_load = load > LOADED ? 0 : seen->since_load + TICK;
    seen->under_load = load > LOADED || seen->since_load < card->linger;
    towards(&seen->demand, load, card->ramp);

    uint64_t reasons = throttled(gpu, now);
    double share = (reasons & ~3ull) ? 0.55 : 1, cap = cause(READ_clock_cap, gpu, now, 0);
    if (card->droop > 0)
        share *= 1 - between(card->droop * (seen->temperature - 40) / card->sm_peak, 0, 0.2);
    if (cap > 0 && cap < card->sm_peak * share)
        share = cap / card->sm_peak;
    double most = (card->power_peak - card->power_idle) * varied(gpu, 33) * (1 + card->leak * (seen->temperature - 50));
    double dynamic = most * seen->demand * share * (1 + 0.02 * uneven(gpu, tick, 1));
    double room = cause(READ_power_limit, gpu, now, card->power_limit) - card->power_idle;
    if (dynamic > room) { /* less voltage with less clock: power falls with the square */
        share *= sqrt(between(room / dynamic, 0.05, 1)) * (1 + 0.01 * uneven(gpu, tick, 6));
        dynamic = room > 0 ? room * (1 + 0.004 * uneven(gpu, tick, 2)) : 0;
        reasons |= 4;
    }
    if (!seen->under_load)
        reasons |= 1;
    seen->power = (card->power_idle + dynamic) * (1 + 0.003 * uneven(gpu, tick, 3));
    towards(&seen->average, seen->power, 1);
    seen->energy += seen->power * TICK;
    warm(gpu, now, tick, load, all, seen);
    seen->reasons = reasons;
    share *= 1 - 0.005 * (1 + uneven(gpu, tick, 4));
    seen->sm = seen->under_load ? 15 * floor(card->sm_peak * share / 15) : card->sm_idle; /* steps of 15 MHz */
    seen->memory_clock = seen->under_load ? card->memory_clock_peak : card->memory_clock_idle;
    double busy = load > LOADED ? between(load + 0.03 * uneven(gpu, tick, 5), 0, 1) : 0;
    towards(&seen->busy, busy, card->util_window);
}

void card_begin(int gpu, struct gauges *seen)
{
    const struct card *card = &world()->card[gpu];
    *seen = (struct gauges){
        .average = card->power_idle,
        .power = card->power_idle,
        .temperature = card->ambient + RESIDUE,
        .memory_temperature = card->ambient + RESIDUE + card->memory_rise * 0.3,
        .energy = 1e5 * (gpu + 1), /* the counter runs since the driver was loaded */
        .since_load = 1e9,
    };
}
