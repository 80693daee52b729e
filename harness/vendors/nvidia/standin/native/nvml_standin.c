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

/* For that long, or for ever. Where time is turned by others, only the caller could go on: OK, or TIMEOUT at once. */
static answer_t hang(double seconds)
{
    struct timespec nap = {.tv_nsec = 50000000};
    if (clock_turned()) {
        clock_pass(seconds > 0 ? seconds : 0);
        return seconds > 0 ? OK : TIMEOUT;
    }
    for (double until = world_now() + seconds; seconds <= 0 || world_now() < until;)
        nanosleep(&nap, NULL);
    return OK;
}

/* The next fault of a kind that strikes a call (or field): by its name, and by chance where it has one. */
static const struct fault *striking(enum kind kind, int gpu, double now, const char *call, int *from)
{
    const struct fault *fault;
    while ((fault = active(kind, gpu, now, from)))
        if ((!strcmp(fault->what, call) || !strcmp(fault->what, "*")) &&
            (fault->chance >= 1 || (uneven(gpu, world_turn(), 0x2000u + (unsigned)*from) + 1) / 2 < fault->chance))
            return fault;
    return NULL;
}

/* What a fault makes of a call (or field): OK, or the error it answers. A hang is over when the call returns. */
answer_t spoilt(int gpu, double now, const char *call)
{
    const struct fault *fault;
    answer_t answer = OK;
    int from = 0;
    while (answer == OK && (fault = striking(HANG, gpu, now, call, &from)))
        answer = hang(fault->value);
    if (answer == OK && (from = 0, striking(UNSUPPORTED, gpu, now, call, &from)))
        answer = NOT_SUPPORTED;
    if (answer == OK && (from = 0, fault = striking(FAILING, gpu, now, call, &from)))
        answer = (answer_t)fault->value;
    return answer;
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
        answer = hang(0);
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
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    case OPERATING_SYSTEM: return "The operating system has blocked the request.";
    case VERSION_MISMATCH: return "Driver/library version mismatch";
    case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

API answer_t nvmlSystemGetDriverVersion(char *out, unsigned length)
{
    char text[160];
    answer_t answer;
    if (!started)
        return UNINITIALIZED;
    snprintf(text, sizeof text, "%s-shakedown-standin",
             series_text(READ_driver, -1, world_at(0, NULL), world()->driver, &answer));
    return answer ? answer : text_out(text, out, length);
}

API answer_t nvmlSystemGetNVMLVersion(char *out, unsigned length)
{
    answer_t answer;
    if (!started)
        return UNINITIALIZED;
    const char *text = series_text(READ_nvml, -1, world_at(0, NULL), world()->nvml, &answer);
    return answer ? answer : text_out(text, out, length);
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

/* The card that now goes by that text. */
static answer_t named(enum reading which, const char *text, device_t *out)
{
    for (int n = 0; started && text && n < world()->cards; n++) {
        struct look look = {.gpu = n, .card = &world()->card[n]};
        look.now = world_at(n, &look.gauges);
        answer_t answer;
        const char *own = words_of(&look, which, &answer);
        if (answer == OK && !strcmp(text, own))
            return found(n, out);
    }
    return started ? found(-1, out) : UNINITIALIZED;
}

API answer_t nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out)
{
    return named(READ_uuid, uuid, out);
}

API answer_t nvmlDeviceGetHandleBySerial(const char *serial, device_t *out)
{
    return named(READ_serial, serial, out);
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

#define CARDS_OWN(name, text)                                          \
    API answer_t name(device_t device, char *out, unsigned length)     \
    {                                                                  \
        ENTER;                                                         \
        return text_out(look.card->text, out, length);                 \
    }
WORDS(nvmlDeviceGetName, READ_name)
WORDS(nvmlDeviceGetUUID, READ_uuid)
WORDS(nvmlDeviceGetSerial, READ_serial)
WORDS(nvmlDeviceGetVbiosVersion, READ_vbios)
CARDS_OWN(nvmlDeviceGetInforomImageVersion, inforom)
CARDS_OWN(nvmlDeviceGetBoardPartNumber, part)
FIXED(nvmlDeviceGetIndex, unsigned, look.gpu)
FIXED(nvmlDeviceGetMinorNumber, unsigned, look.gpu)

API answer_t nvmlDeviceGetInforomVersion(device_t device, unsigned object, char *out, unsigned length)
{
    ENTER;
    return object > 3 ? INVALID_ARGUMENT : text_out("1.0", out, length);
}

/* --- memory and processes ---------------------------------------------------------------------------------- */

struct memory { u64 total, available, used; };
struct memory_v2 { unsigned version; u64 total, reserved, available, used; };

API answer_t nvmlDeviceGetMemoryInfo(device_t device, struct memory *out)
{
    ENTER;
    u64 total, taken;
    GIVE(total, READ_memory_bytes, 1);
    GIVE(taken, READ_memory_used, 1);
    *out = (struct memory){total, total > taken ? total - taken : 0, taken};
    return OK;
}

API answer_t nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *out)
{
    ENTER;
    u64 total, taken;
    if (out->version != (sizeof *out | 2u << 24))
        return ARGUMENT_VERSION_MISMATCH;
    GIVE(total, READ_memory_bytes, 1);
    GIVE(taken, READ_memory_used, 1);
    u64 reserved = total / 100;
    taken = taken > reserved ? taken - reserved : 0;
    u64 left = total > reserved + taken ? total - reserved - taken : 0;
    *out = (struct memory_v2){out->version, total, reserved, left, taken};
    return OK;
}

#define INVENTED 4000000u /* process ids of processes that only a series counts: above Linux' usual ones */
#define MOST_PROCESSES 1000

struct process { unsigned pid; u64 bytes; unsigned gpu_instance, compute_instance; };
struct process_v1 { unsigned pid; u64 bytes; };

/* Processes of a type ("compute", "graphics"). A series says how many there are: what faults do not name, computes. */
static answer_t list(const struct look *look, const char *type, unsigned *count, void *out, size_t size)
{
    unsigned room = *count, there = 0, known = 0, total;
    answer_t failed = OK;
    int from = 0;
    GIVE_OF(look, total, READ_processes, 1);
    total = total > MOST_PROCESSES ? MOST_PROCESSES : total;
    for (unsigned n = 0; n < total; n++) {
        const struct fault *fault = active(PROCESS, look->gpu, look->now, &from);
        if (strcmp(fault ? fault->what : "compute", type))
            continue;
        struct process made = {INVENTED + 1000u * (unsigned)look->gpu + known++, 0, ~0u, ~0u};
        if (fault)
            made = (struct process){(unsigned)fault->value, (u64)fault->rate, ~0u, ~0u};
        if (there++ < room && out)
            memcpy((char *)out + (there - 1) * size, &made, size);
    }
    *count = there;
    return there > room || (there && !out) ? INSUFFICIENT_SIZE : OK;
}

#define PROCESSES(name, type, shape)                                                    \
    API answer_t name(device_t device, unsigned *count, shape *out)                     \
    {                                                                                   \
        ENTER;                                                                          \
        return count ? list(&look, type, count, out, sizeof *out) : INVALID_ARGUMENT;   \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses, "compute", struct process_v1)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, "compute", struct process)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute", struct process)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, "graphics", struct process_v1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, "graphics", struct process)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics", struct process)

struct used { unsigned pid; u64 when; unsigned sm, memory, encoder, decoder; };

API answer_t nvmlDeviceGetProcessUtilization(device_t device, struct used *out, unsigned *count, u64 since)
{ /* what the GPU is used for is shared out evenly */
    ENTER;
    struct process there[MOST_PROCESSES];
    unsigned known = MOST_PROCESSES, room = count ? *count : 0, used;
    (void)since;
    if (!count)
        return INVALID_ARGUMENT;
    if ((failed = list(&look, "compute", &known, there, sizeof *there)))
        return failed;
    GIVE(used, READ_util_gpu, 1);
    *count = known;
    if (!known)
        return NOT_FOUND; /* as drivers answer where nothing was sampled */
    if (known > room || !out)
        return INSUFFICIENT_SIZE;
    for (unsigned n = 0; n < known; n++)
        out[n] = (struct used){there[n].pid, since + 1, used / known, used * 6 / 10 / known, 0, 0};
    return OK;
}

API answer_t nvmlDeviceGetDriverModel(device_t device, unsigned *current, unsigned *pending)
{ /* only Windows has several */
    ENTER;
    (void)current, (void)pending;
    return NOT_SUPPORTED;
}
