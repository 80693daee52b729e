/* SPDX-License-Identifier: Apache-2.0
 *
 * The time of the NVML stand-in: that of the machine, or one that somebody turns so that an hour passes in a second.
 *
 * shakedownStandinSetTime (nvml_standin_play.c) turns it for one process. For several, SHAKEDOWN_NVML_CLOCK names a
 * file of eight bytes, a native double: seconds since the scenario began, written by whoever turns it.
 */
#define _GNU_SOURCE
#include "nvml_standin.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double own;
static volatile double *turned; /* NULL: the machine's */

double clock_now(void)
{
    struct timespec now;
    if (turned)
        return *turned;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int clock_turned(void)
{
    return turned != NULL;
}

int clock_own(void)
{
    return turned == &own;
}

void clock_set(double seconds)
{
    own = seconds;
    turned = &own;
}

void clock_pass(double seconds)
{
    if (turned)
        *turned += seconds;
}

int clock_open(void)
{
    const char *path = getenv("SHAKEDOWN_NVML_CLOCK");
    struct stat status;
    if (turned || !path || !*path)
        return OK;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return OPERATING_SYSTEM;
    void *there = !fstat(file, &status) && status.st_size >= (off_t)sizeof(double)
                      ? mmap(NULL, sizeof(double), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                      : MAP_FAILED;
    close(file);
    if (there == MAP_FAILED)
        return OPERATING_SYSTEM;
    turned = there;
    return OK;
}
