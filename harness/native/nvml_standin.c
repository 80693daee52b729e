/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for libnvidia-ml.so.1: the functions that pynvml calls, answered from a scenario (how it is written:
 * nvml_standin_scenario.c; how it behaves: nvml_standin_world.c) instead of a driver.
 *
 *     gcc -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -Wl,-soname,libnvidia-ml.so.1 \
 *         -o libnvidia-ml.so.1 nvml_standin*.c
 *
 * It never passes for the real one: the driver's version ends in "-shakedown-standin", and
 * shakedownStandinScenario() returns the scenario's name. Functions and structures are those of nvml.h as
 * nvidia-ml-py 13 declares them. What is not here is FUNCTION_NOT_FOUND to pynvml, as with an old driver.
 *
 * Faults HANG, UNSUPPORTED and FAILING name a call in WHAT ("nvmlDeviceGetPowerUsage", "*" for all), or one
 * field of nvmlDeviceGetFieldValues by its number ("field 82").
 */
#include "nvml_standin.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BUSY_DEVICE 0x5e1f /* what opaque handles begin with */

static struct nvmlDevice devices[MAX_GPUS];
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static int started;

/* --- before every answer ----------------------------------------------------------------------------------- */

static void hang(double seconds)
{
    struct timespec nap = {.tv_nsec = 50000000};
    for (double until = world_now() + seconds; seconds <= 0 || world_now() < until;)
        nanosleep(&nap, NULL);
}

/* What a fault makes of a call (or field): OK, or the error it answers. A hang is over when the call returns. */
answer_t spoilt(int gpu, double now, const char *call)
{
    const struct fault *fault;
    int from = 0;
    while ((fault = active(HANG, gpu, now, &from)))
        if (!strcmp(fault->what, call) || !strcmp(fault->what, "*"))
            hang(fault->value);
    for (from = 0; (fault = active(UNSUPPORTED, gpu, now, &from));)
        if (!strcmp(fault->what, call))
            return NOT_SUPPORTED;
    for (from = 0; (fault = active(FAILING, gpu, now, &from));)
        if (!strcmp(fault->what, call) || !strcmp(fault->what, "*"))
            return (answer_t)fault->value;
    return OK;
}

answer_t enter(device_t device, const char *call, struct look *look)
{
    if (!started)
        return UNINITIALIZED;
    if (!device || device < devices || device >= devices + world()->cards || device->magic != BUSY_DEVICE)
        return INVALID_ARGUMENT;
    look->gpu = device->index;
    look->card = &world()->card[look->gpu];
    look->now = world_at(look->gpu, &look->gauges);
    int from = 0;
    if (active(VANISH, look->gpu, look->now, &from))
        return GPU_IS_LOST;
    return spoilt(look->gpu, look->now, call);
}

answer_t text_out(const char *text, char *out, unsigned length)
{
    if (!out)
        return INVALID_ARGUMENT;
    if (!*text)
        return NOT_SUPPORTED;
    if (strlen(text) >= length)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return OK;
}

/* --- the library itself ------------------------------------------------------------------------------------ */

API answer_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    pthread_mutex_lock(&starting);
    answer_t answer = started ? OK : world_open();
    if (answer < 0)
        hang(0);
    if (answer == OK && !started++)
        for (int n = 0; n < MAX_GPUS; n++)
            devices[n] = (struct nvmlDevice){BUSY_DEVICE, n};
    pthread_mutex_unlock(&starting);
    return answer;
}

API answer_t nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}

API answer_t nvmlShutdown(void)
{
    pthread_mutex_lock(&starting);
    answer_t answer = started ? OK : UNINITIALIZED;
    if (started && !--started)
        world_close();
    pthread_mutex_unlock(&starting);
    return answer;
}

API const char *shakedownStandinScenario(void)
{
    return world()->name;
}

API const char *shakedownStandinProblem(void)
{ /* why nvmlInit did not take the scenario; empty when it did */
    return world()->problem;
}

API const char *nvmlErrorString(answer_t error)
{
    switch (error) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case OPERATING_SYSTEM: return "The operating system has blocked the request.";
    case VERSION_MISMATCH: return "Driver/library version mismatch";
    case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

API answer_t nvmlSystemGetDriverVersion(char *out, unsigned length)
{
    char text[80];
    snprintf(text, sizeof text, "%s-shakedown-standin", world()->driver);
    return started ? text_out(text, out, length) : UNINITIALIZED;
}

API answer_t nvmlSystemGetNVMLVersion(char *out, unsigned length)
{
    return started ? text_out(world()->nvml, out, length) : UNINITIALIZED;
}

API answer_t nvmlSystemGetCudaDriverVersion_v2(int *out)
{
    *out = (int)world()->cuda;
    return started ? OK : UNINITIALIZED;
}

API answer_t nvmlSystemGetCudaDriverVersion(int *out)
{
    return nvmlSystemGetCudaDriverVersion_v2(out);
}

/* --- devices ----------------------------------------------------------------------------------------------- */

API answer_t nvmlDeviceGetCount_v2(unsigned *out)
{
    *out = (unsigned)world()->cards;
    return started ? OK : UNINITIALIZED;
}

API answer_t nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *out)
{
    if (!started)
        return UNINITIALIZED;
    if (index >= (unsigned)world()->cards)
        return INVALID_ARGUMENT;
    device_t device = *out = &devices[index];
    ENTER;
    return OK;
}

static answer_t found(int index, device_t *out)
{
    return index < 0 ? NOT_FOUND : nvmlDeviceGetHandleByIndex_v2((unsigned)index, out);
}

API answer_t nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out)
{
    for (int n = 0; uuid && n < world()->cards; n++)
        if (!strcmp(uuid, world()->card[n].uuid))
            return found(n, out);
    return found(-1, out);
}

API answer_t nvmlDeviceGetHandleBySerial(const char *serial, device_t *out)
{
    for (int n = 0; serial && n < world()->cards; n++)
        if (!strcmp(serial, world()->card[n].serial))
            return found(n, out);
    return found(-1, out);
}

API answer_t nvmlDeviceGetHandleByPciBusId_v2(const char *id, device_t *out)
{
    unsigned domain, bus, number, function;
    if (!id || sscanf(id, "%x:%x:%x.%u", &domain, &bus, &number, &function) != 4)
        return INVALID_ARGUMENT;
    for (int n = 0; n < world()->cards; n++) {
        const struct card *card = &world()->card[n];
        if (card->domain == domain && card->bus == bus && card->device == number)
            return found(n, out);
    }
    return found(-1, out);
}

struct pci_info {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char id_text[32];
};

API answer_t nvmlDeviceGetPciInfo_v3(device_t device, struct pci_info *out)
{
    ENTER;
    const struct card *card = look.card;
    memset(out, 0, sizeof *out);
    snprintf(out->legacy, sizeof out->legacy, "%04X:%02X:%02X.0", card->domain & 0xffff, card->bus & 0xff,
             card->device & 0xff);
    snprintf(out->id_text, sizeof out->id_text, "%08X:%02X:%02X.0", card->domain, card->bus & 0xff, card->device & 0xff);
    out->domain = card->domain;
    out->bus = card->bus;
    out->device = card->device;
    out->id = (unsigned)card->model << 16 | (unsigned)card->vendor;
    out->subsystem = (unsigned)card->subsystem << 16 | (unsigned)card->subsystem_vendor;
    return OK;
}

WORDS(nvmlDeviceGetName, look.card->name)
WORDS(nvmlDeviceGetUUID, look.card->uuid)
WORDS(nvmlDeviceGetSerial, look.card->serial)
WORDS(nvmlDeviceGetVbiosVersion, look.card->vbios)
WORDS(nvmlDeviceGetInforomImageVersion, look.card->inforom)
WORDS(nvmlDeviceGetBoardPartNumber, look.card->part)
ONE(nvmlDeviceGetIndex, unsigned, look.gpu)
ONE(nvmlDeviceGetMinorNumber, unsigned, look.gpu)

API answer_t nvmlDeviceGetInforomVersion(device_t device, unsigned object, char *out, unsigned length)
{
    ENTER;
    return object > 3 ? INVALID_ARGUMENT : text_out("1.0", out, length);
}

/* --- memory and processes ---------------------------------------------------------------------------------- */

static double used(const struct look *look)
{
    double bytes = look->card->memory_bytes * (0.01 + 0.5 * look->gauges.busy);
    int from = 0;
    for (const struct fault *fault; (fault = active(PROCESS, look->gpu, look->now, &from));)
        bytes += fault->rate;
    return bytes < look->card->memory_bytes ? bytes : look->card->memory_bytes;
}

struct memory { u64 total, available, used; };
struct memory_v2 { unsigned version; u64 total, reserved, available, used; };

API answer_t nvmlDeviceGetMemoryInfo(device_t device, struct memory *out)
{
    ENTER;
    u64 total = (u64)look.card->memory_bytes, taken = (u64)used(&look);
    *out = (struct memory){total, total - taken, taken};
    return OK;
}

API answer_t nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *out)
{
    ENTER;
    if (out->version != (sizeof *out | 2u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    u64 total = (u64)look.card->memory_bytes, reserved = total / 100, taken = (u64)used(&look);
    taken = taken > reserved ? taken - reserved : 0;
    *out = (struct memory_v2){out->version, total, reserved, total - reserved - taken, taken};
    return OK;
}

struct process { unsigned pid; u64 bytes; unsigned gpu_instance, compute_instance; };

static answer_t list(const struct look *look, const char *type, unsigned *count, struct process *out)
{
    unsigned room = *count, there = 0;
    int from = 0;
    for (const struct fault *fault; (fault = active(PROCESS, look->gpu, look->now, &from));)
        if (!strcmp(fault->what, type) && there++ < room && out)
            out[there - 1] = (struct process){(unsigned)fault->value, (u64)fault->rate, ~0u, ~0u};
    *count = there;
    return there > room || (there && !out) ? INSUFFICIENT_SIZE : OK;
}

API answer_t nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned *count, struct process *out)
{
    ENTER;
    return list(&look, "compute", count, out);
}

API answer_t nvmlDeviceGetGraphicsRunningProcesses_v3(device_t device, unsigned *count, struct process *out)
{
    ENTER;
    return list(&look, "graphics", count, out);
}
