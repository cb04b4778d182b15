/* A fake NVIDIA management library: as much of it as quantpick's probe asks.
 *
 * FAKE_NVML_INIT is the status that initialising answers (0 when unset), and FAKE_NVML_HANG the
 * seconds that it takes. FAKE_NVML_DEVICES lists devices, a row each with a semicolon after it, in
 * the order of read_row below. A row with a parent is a MIG slice of the card in that row. Zero for
 * the compute capability, the clock or the width, and a dash for a text, is "not supported".
 * Compiled with -DOLD_DRIVER it lacks the second version of the memory call, as drivers before 510
 * do. Like the real library it answers nothing before it was initialised.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };
enum { VERSION_MISMATCH = 25, MEMORY_CLOCK = 2, MOST_SLICES = 7, MOST_ROWS = 16 };

/* The size of the struct below, and the version in the upper byte. */
#define MEMORY_V2 0x02000028u
#define ADDRESSING_V1 0x01000008u

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned int version; unsigned long long total, reserved, free, used; };
struct addressing { unsigned int version, mode; };
struct pci {
    char legacy[16];
    unsigned int domain, bus, device, id, subsystem;
    char bus_id[32];
};

struct device {
    int parent, handle_status, memory_status, mig, major, minor;
    unsigned int clock, width, addressing;
    unsigned long long total, reserved, free;
    char uuid[96], pci[32], name[96];
};

static struct device devices[MOST_ROWS];
static unsigned int rows;
static int initialized;

static int read_row(const char *row, struct device *d)
{
    return sscanf(row, "%d %d %d %d %d.%d %u %u %u %llu %llu %llu %95s %31s %95[^;]", &d->parent,
                  &d->handle_status, &d->memory_status, &d->mig, &d->major, &d->minor, &d->clock,
                  &d->width, &d->addressing, &d->total, &d->reserved, &d->free, d->uuid, d->pci,
                  d->name) == 15;
}

/* The card, or the slice of a card, with a number; cards have the parent -1. */
static struct device *find(int parent, unsigned int number)
{
    for (unsigned int row = 0; row < rows; row++)
        if (devices[row].parent == parent && number-- == 0)
            return &devices[row];
    return NULL;
}

static int say_text(const char *text, char *said, unsigned int length)
{
    if (!strcmp(text, "-"))
        return NOT_SUPPORTED;
    snprintf(said, length, "%s", text);
    return initialized ? SUCCESS : UNINITIALIZED;
}

static int say_number(unsigned int number, unsigned int *said)
{
    *said = number;
    return number ? SUCCESS : NOT_SUPPORTED;
}

int nvmlInitWithFlags(unsigned int flags)
{
    const char *status = getenv("FAKE_NVML_INIT"), *row = getenv("FAKE_NVML_DEVICES");
    (void)flags;
    if (getenv("FAKE_NVML_HANG"))
        sleep(atoi(getenv("FAKE_NVML_HANG")));
    if (status && atoi(status))
        return atoi(status);
    for (rows = 0; row && *row && rows < MOST_ROWS; row = strchr(row, ';') + 1)
        if (!read_row(row, &devices[rows++]))
            return INVALID_ARGUMENT;
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
    for (*found = 0; find(-1, *found); ++*found)
        ;
    return initialized ? SUCCESS : UNINITIALIZED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct device **found)
{
    *found = find(-1, index);
    if (!initialized || !*found)
        return initialized ? INVALID_ARGUMENT : UNINITIALIZED;
    return (*found)->handle_status;
}

int nvmlDeviceGetName(const struct device *d, char *name, unsigned int length)
{
    return say_text(d->name, name, length);
}

int nvmlDeviceGetUUID(const struct device *d, char *uuid, unsigned int length)
{
    return say_text(d->uuid, uuid, length);
}

int nvmlDeviceGetPciInfo_v3(const struct device *d, struct pci *pci)
{
    memset(pci, 0, sizeof *pci);
    return say_text(d->pci, pci->bus_id, sizeof pci->bus_id);
}

int nvmlDeviceGetCudaComputeCapability(const struct device *d, int *major, int *minor)
{
    *major = d->major;
    *minor = d->minor;
    return d->major ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxClockInfo(const struct device *d, int type, unsigned int *clock)
{
    return type == MEMORY_CLOCK ? say_number(d->clock, clock) : INVALID_ARGUMENT;
}

int nvmlDeviceGetMemoryBusWidth(const struct device *d, unsigned int *width)
{
    return say_number(d->width, width);
}

int nvmlDeviceGetAddressingMode(const struct device *d, struct addressing *answer)
{
    if (answer->version != ADDRESSING_V1)
        return VERSION_MISMATCH;
    return say_number(d->addressing, &answer->mode);
}

/* The mode is -1 for cards that know none. After the next reset it is always the other one. */
int nvmlDeviceGetMigMode(const struct device *d, unsigned int *current, unsigned int *pending)
{
    *current = d->mig == 1;
    *pending = !*current;
    return d->mig < 0 ? NOT_SUPPORTED : SUCCESS;
}

/* As many as there can be, whether or not there are any. */
int nvmlDeviceGetMaxMigDeviceCount(const struct device *d, unsigned int *most)
{
    *most = d->mig < 0 ? 0 : MOST_SLICES;
    return SUCCESS;
}

/* The slices have the numbers 0, 2, 4 and so on: those made and removed leave gaps. */
int nvmlDeviceGetMigDeviceHandleByIndex(const struct device *d, unsigned int index,
                                        struct device **found)
{
    *found = index % 2 ? NULL : find((int)(d - devices), index / 2);
    return *found ? SUCCESS : NOT_FOUND;
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
