/* SPDX-License-Identifier: Apache-2.0
 *
 * The series of the NVML stand-in: what a scenario lets a reading show at a time, whatever the card does.
 *
 * A series is a list of points in order of time. Before its first point, and from its `until` on, the reading is the
 * card's own. Of several series of one reading each works on what the one before it made.
 */
#include "nvml_standin.h"

#include <math.h>
#include <stddef.h>

/* A place in a series: the point it lies behind, seconds since that point, and how often the series has gone by. */
struct place {
    const struct point *point;
    double past, rounds;
    int last;
};

static int placed(const struct series *series, double now, struct place *at)
{
    const struct point *first = &world()->point[series->first];
    double began = series->by_load ? world_loaded() : 0, time = now - began;
    if (began < 0 || time < first->at || (series->until >= 0 && time >= series->until))
        return 0;
    at->rounds = 0;
    if (series->repeat > 0) {
        at->rounds = floor((time - first->at) / series->repeat);
        time -= at->rounds * series->repeat;
    }
    int low = 0, high = series->points - 1; /* the last point that is not later */
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (first[middle].at <= time)
            low = middle;
        else
            high = middle - 1;
    }
    at->point = first + low;
    at->past = time - first[low].at;
    at->last = low == series->points - 1;
    return 1;
}

static double here(const struct series *series, const struct place *at)
{
    const struct point *next = at->point + 1;
    if (series->step || at->last || next->none || next->at <= at->point->at)
        return at->point->value;
    return at->point->value + (next->value - at->point->value) * at->past / (next->at - at->point->at);
}

/* The whole of a sum kept in the points, once around a series that repeats. */
static double around(const struct series *series, int grown)
{
    const struct point *last = &world()->point[series->first + series->points - 1];
    double length = world()->point[series->first].at + series->repeat - last->at;
    return grown ? last->grown : last->sum + (last->none ? 0 : last->value * length);
}

/* What has come together of a series of rates since its first point. */
static double integral(const struct series *series, const struct place *at)
{
    double sum = at->point->sum;
    if (!at->point->none)
        sum += (at->point->value + here(series, at)) / 2 * at->past;
    return at->rounds > 0 ? sum + at->rounds * around(series, 0) : sum;
}

static double risen(const struct series *series, const struct place *at)
{
    double since = here(series, at) - at->point->value, sum = at->point->grown + (since > 0 ? since : 0);
    return at->rounds > 0 ? sum + at->rounds * around(series, 1) : sum;
}

static const struct series *next_of(enum reading which, int gpu, double now, int *from, struct place *at)
{
    while (*from < world()->series_count) {
        const struct series *series = &world()->series[(*from)++];
        if (series->reading == which && (series->gpu < 0 || series->gpu == gpu) && placed(series, now, at))
            return series;
    }
    return NULL;
}

answer_t series_over(enum reading which, int gpu, double now, answer_t answer, double *value)
{
    struct place at;
    int from = 0;
    if (!world()->has_series[which])
        return answer;
    for (const struct series *series; (series = next_of(which, gpu, now, &from, &at));) {
        if (at.point->none) {
            answer = series->none;
            continue;
        }
        double made = series->rate ? integral(series, &at) : here(series, &at);
        if (series->noise > 0)
            made += series->noise * normal(gpu, (uint64_t)(now / TICK + 1e-6), 64u + (unsigned)from);
        if (series->apply == SET)
            answer = OK;
        *value = series->apply == ADD ? *value + made : series->apply == SCALE ? *value * made : made;
    }
    return answer;
}

double series_grown(enum reading which, int gpu, double now)
{
    struct place at;
    double sum = 0;
    int from = 0;
    if (!world()->has_series[which])
        return 0;
    for (const struct series *series; (series = next_of(which, gpu, now, &from, &at));)
        sum += series->apply == SCALE ? 0 : series->rate ? integral(series, &at) : risen(series, &at);
    return sum;
}

const char *series_text(enum reading which, int gpu, double now, const char *own, answer_t *answer)
{
    struct place at;
    int from = 0;
    *answer = OK;
    if (!world()->has_series[which])
        return own;
    for (const struct series *series; (series = next_of(which, gpu, now, &from, &at));) {
        *answer = at.point->none ? series->none : OK;
        own = at.point->none ? own : world()->text[(int)at.point->value];
    }
    return own;
}
