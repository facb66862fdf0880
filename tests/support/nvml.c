/* A driver's management library for tests: three GPUs, the third divided into two instances. Only what the
 * program asks for. Layouts and numbers are those of nvml.h, NVIDIA. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMED_OUT = 10, LOST = 15 };

typedef struct {
    const char *uuid, *name, *bus;
    unsigned long long total, used;
    int parent;
} Gpu;

#define GIB (1ull << 30)
static Gpu gpus[] = {
    {"GPU-stub-0", "NVIDIA Stub", "00000000:01:00.0", 80 * GIB, 3 * GIB, -1},
    {"GPU-stub-1", "NVIDIA Stub", "00000000:02:00.0", 80 * GIB, 0, -1},
    {"GPU-stub-2", "NVIDIA Stub", "00000000:03:00.0", 80 * GIB, 0, -1},
    {"MIG-stub-a", "NVIDIA Stub MIG 3g.40gb", "", 40 * GIB, 0, 2},
    {"MIG-stub-b", "NVIDIA Stub MIG 3g.40gb", "", 40 * GIB, 0, 2},
};

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu, compute; } Process;
typedef struct { Gpu *device; unsigned long long type, data; unsigned gpu, compute; } Event;

static int text(char *to, const char *from, unsigned size) {
    if (strlen(from) >= size) return TOO_SMALL;
    strcpy(to, from);
    return OK;
}

/* Says when GPU 0 is to fail: the file that NVML_STUB names holds an XID. */
static int xid(void) {
    int number = 0;
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (fscanf(file, "%d", &number) != 1) number = 0;
        fclose(file);
    }
    return number;
}

static int lost(Gpu *gpu) { return gpu == gpus && xid() == 79; }

int nvmlInit_v2(void) { return getenv("NVML_STUB_BROKEN") ? 9 : OK; }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { return text(to, "580.65.06", size); }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **gpu) {
    if (index > 2) return 2;
    *gpu = &gpus[index];
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Gpu **gpu) {
    for (unsigned i = 0; i < 5; i++)
        if (!strcmp(gpus[i].uuid, uuid)) {
            *gpu = &gpus[i];
            return OK;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(Gpu *gpu, char *to, unsigned size) { return text(to, gpu->uuid, size); }
int nvmlDeviceGetName(Gpu *gpu, char *to, unsigned size) { return text(to, gpu->name, size); }

int nvmlDeviceGetPciInfo_v3(Gpu *gpu, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    return lost(gpu) ? LOST : text(pci->bus_id, gpu->bus, 32);
}

int nvmlDeviceGetMemoryInfo_v2(Gpu *gpu, Memory *memory) {
    if (lost(gpu)) return LOST;
    memory->total = gpu->total;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->used;
    return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *list) {
    const char *pid = getenv("NVML_STUB_PID");
    unsigned have = gpu == gpus && pid ? 1 : 0;
    if (*count < have || !list) {
        *count = have;
        return have ? TOO_SMALL : OK;
    }
    *count = have;
    if (have) list[0] = (Process){atoi(pid), 3 * GIB, ~0u, ~0u};
    return OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Gpu *gpu, unsigned *count, Process *list) {
    (void)gpu, (void)list;
    *count = 0;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(Gpu *gpu, unsigned *count) {
    *count = gpu == &gpus[2] ? 7 : 0;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Gpu *gpu, unsigned index, Gpu **instance) {
    if (gpu != &gpus[2] || index > 1) return NOT_FOUND;
    *instance = &gpus[3 + index];
    return OK;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Gpu *gpu, Gpu **parent) {
    if (gpu->parent < 0) return NOT_SUPPORTED;
    *parent = &gpus[gpu->parent];
    return OK;
}

/* Whether the set that was made last hears of GPU 0. */
static int hears;

int nvmlEventSetCreate(void **set) {
    hears = 0;
    *set = gpus;
    return OK;
}

int nvmlEventSetFree(void *set) { (void)set; return OK; }

/* GPU 1 has no events, and who asks for them loses the set. */
int nvmlDeviceRegisterEvents(Gpu *gpu, unsigned long long types, void *set) {
    (void)set;
    if (gpu->parent >= 0 || gpu == &gpus[1] || !types) return NOT_SUPPORTED;
    if (gpu == gpus) hears = 1;
    return OK;
}

int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout) {
    static int told;
    (void)set;
    for (unsigned waited = 0; waited < timeout; waited += 5) {
        int number = xid();
        if (hears && number && number != told) {
            told = number;
            *event = (Event){gpus, 8, (unsigned long long)number, ~0u, ~0u};
            return OK;
        }
        usleep(5000);
    }
    return TIMED_OUT;
}
