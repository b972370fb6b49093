/* Compiled as C; named as all C that is written by hand here, for *.c is what Cython makes.

   Stands in for NVIDIA's libcuda.so.1: each function hands its name and arguments to one handler,
   which Python sets (fake_cuda/device.py), and returns the code that it answers.

   Arguments are taken as 64-bit words, as integers and pointers are passed on x86-64 and AArch64;
   the upper half of narrower ones is whatever was there, which the handler masks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t word;
typedef int (*handler_t)(const char *name, const word *arguments);

static handler_t handler;
static word quiet;

enum { NOT_INITIALIZED = 3, DEINITIALIZED = 4, NOT_FOUND = 500 };

static int without_handler = NOT_INITIALIZED;

void fake_set_handler(handler_t given) {
    handler = given;
    without_handler = DEINITIALIZED;
}

/* Every call succeeds and does nothing: what is left to be timed is the caller's side. Contexts and
   memory that are asked for have `given` as their handle or address. */
void fake_set_quiet(word given) { quiet = given; }

static int forward(const char *name, const word *arguments) {
    if (quiet) {
        if (!strcmp(name, "cuCtxGetCurrent") || !strncmp(name, "cuMemAlloc", 10))
            *(word *)arguments[0] = quiet;
        return 0;
    }
    return handler ? handler(name, arguments) : without_handler;
}

#define BODY(name, ...) { const word given[] = {__VA_ARGS__}; return forward(#name, given); }
#define F1(name) int name(word a) BODY(name, a)
#define F2(name) int name(word a, word b) BODY(name, a, b)
#define F3(name) int name(word a, word b, word c) BODY(name, a, b, c)
#define F4(name) int name(word a, word b, word c, word d) BODY(name, a, b, c, d)
#define F5(name) int name(word a, word b, word c, word d, word e) BODY(name, a, b, c, d, e)
#define F11(name)                                                                             \
    int name(word a, word b, word c, word d, word e, word f, word g, word h, word i, word j,  \
             word k) BODY(name, a, b, c, d, e, f, g, h, i, j, k)

F1(cuInit)
F1(cuDriverGetVersion)
F2(cuGetErrorName)
F2(cuGetErrorString)
F1(cuDeviceGetCount)
F2(cuDeviceGet)
F3(cuDeviceGetName)
F3(cuDeviceGetAttribute)
F2(cuDevicePrimaryCtxRetain)
F1(cuCtxGetCurrent)
F1(cuCtxSetCurrent)
F1(cuCtxGetDevice)
F1(cuThreadExchangeStreamCaptureMode)
F3(cuPointerGetAttribute)
F5(cuModuleLoadDataEx)
F3(cuModuleGetFunction)
F3(cuFuncSetAttribute)
F11(cuLaunchKernel)
F4(cuLaunchKernelEx)
F2(cuMemGetInfo_v2)
F2(cuMemPoolCreate)
F3(cuMemPoolSetAttribute)
F4(cuMemAllocFromPoolAsync)
F2(cuMemFreeAsync)
F2(cuMemAlloc_v2)
F1(cuMemFree_v2)
F4(cuMemcpyHtoDAsync_v2)
F4(cuMemcpyDtoHAsync_v2)
F4(cuMemsetD8Async)
F1(cuStreamSynchronize)
F2(cuStreamIsCapturing)

/* What Numba's own arrays need besides, up to their end: that a function is missing is an exception
   to cuda.bindings, even when Python has ended. */
F2(cuDeviceGetUuid_v2)
F1(cuDevicePrimaryCtxRelease_v2)
F1(cuCtxPushCurrent_v2)
F1(cuCtxPopCurrent_v2)
F2(cuStreamCreate)
F1(cuStreamDestroy_v2)
F3(cuMemcpyHtoD_v2)
F3(cuMemcpyDtoH_v2)

/* How cuda.bindings finds functions: by their names in cuda.h, without versions. */
int cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t flags,
                        int *status) {
    static const char *const suffixes[] = {"_v2", ""};
    (void)version, (void)flags;
    Dl_info self;
    dladdr((void *)cuInit, &self);
    void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    *address = NULL;
    for (int i = 0; i < 2 && !*address; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
        *address = dlsym(library, name);
    }
    dlclose(library);
    if (status) *status = *address ? 0 : 1;
    return *address ? 0 : NOT_FOUND;
}
