/* A fake NVIDIA management library: as much of it as quantpick's probe asks.
 *
 * FAKE_NVML_INIT is the status that initialising answers (0 when unset). FAKE_NVML_DEVICES lists
 * devices, each "handle_status memory_status total reserved free name" with a semicolon after it.
 * Compiled with -DOLD_DRIVER it lacks the second version of the memory call, as drivers before 510
 * do. Like the real library it answers nothing before it was initialised.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, VERSION_MISMATCH = 25 };

/* The size of the struct below, and the version in the upper byte. */
#define MEMORY_V2 0x02000028u

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned int version; unsigned long long total, reserved, free, used; };

struct device {
    int handle_status, memory_status;
    unsigned long long total, reserved, free;
    char name[96];
};

static struct device devices[16];
static unsigned int count;
static int initialized;

int nvmlInitWithFlags(unsigned int flags)
{
    const char *status = getenv("FAKE_NVML_INIT"), *row = getenv("FAKE_NVML_DEVICES");
    (void)flags;
    if (status && atoi(status))
        return atoi(status);
    count = 0;
    while (row && *row && count < 16) {
        struct device *d = &devices[count];
        if (sscanf(row, "%d %d %llu %llu %llu %95[^;]", &d->handle_status, &d->memory_status,
                   &d->total, &d->reserved, &d->free, d->name) != 6)
            return INVALID_ARGUMENT;
        count++;
        row = strchr(row, ';') + 1;
    }
    initialized = 1;
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    int status = initialized ? SUCCESS : UNINITIALIZED;
    initialized = 0;
    return status;
}

const char *nvmlErrorString(int status)
{
    static char text[32];
    snprintf(text, sizeof text, "fake status %d", status);
    return text;
}

int nvmlDeviceGetCount_v2(unsigned int *found)
{
    *found = count;
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct device **found)
{
    if (!initialized || index >= count)
        return initialized ? INVALID_ARGUMENT : UNINITIALIZED;
    *found = &devices[index];
    return (*found)->handle_status;
}

int nvmlDeviceGetName(const struct device *device, char *name, unsigned int length)
{
    snprintf(name, length, "%s", device->name);
    return initialized ? SUCCESS : UNINITIALIZED;
}

/* The first version knows no reserved memory: what the driver keeps counts as used. */
int nvmlDeviceGetMemoryInfo(const struct device *d, struct memory *memory)
{
    memory->total = d->total;
    memory->free = d->free;
    memory->used = d->total - d->free;
    return initialized ? d->memory_status : UNINITIALIZED;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(const struct device *d, struct memory_v2 *memory)
{
    if (memory->version != MEMORY_V2)
        return VERSION_MISMATCH;
    memory->total = d->total;
    memory->reserved = d->reserved;
    memory->free = d->free;
    memory->used = d->total - d->reserved - d->free;
    return initialized ? d->memory_status : UNINITIALIZED;
}
#endif
