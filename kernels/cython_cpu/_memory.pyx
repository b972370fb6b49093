"""Memory for large results that is used again, without its page faults.

``empty(shape, dtype)`` is ``numpy.empty``; the array owns its memory as always, and when it dies
the memory goes to a shelf for its size, from which the next array of about that size takes it.
Shelves hold 256 MiB at most; ``release`` gives that back to the system.
Why: the system clears every fresh page when it is first written, which takes
longer than to pool or to convolve it. Source: NEP 49, NumPy's hook for allocators.

There is no lock to wait for: whoever finds the shelves in use by another thread does without them.
A child forked at such a moment begins with empty ones.
"""

from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport PyObject, Py_XDECREF

cimport numpy as cnp

import numpy as np

cnp.import_array()


cdef extern from *:
    """
    #include <stdlib.h>
    #include <string.h>
    #ifndef _WIN32
    #include <pthread.h>
    #include <sys/mman.h>
    #endif

    /* In front of every array's memory, as long as a cache line. */
    typedef struct Block {
        size_t capacity;
        struct Block *next;
        char rest[64 - sizeof(size_t) - sizeof(void *)];
    } Block;

    enum { HEADER = sizeof(Block), SHELVES = 8 * 40 };
    /* Smaller blocks come from the heap, where memory is used again anyway. */
    static const size_t SMALLEST = (size_t)1 << 20;
    static const size_t MOST_KEPT = (size_t)256 << 20;
    /* Blocks from this on may be made of huge pages, of that size. */
    static const size_t LARGE = (size_t)4 << 20, HUGE_PAGE = (size_t)2 << 20;

    static Block *shelves[SHELVES];
    static size_t kept;
    static char in_use;

    static int enter(void)
    {
        return !__atomic_test_and_set(&in_use, __ATOMIC_ACQUIRE);
    }

    static void leave(void)
    {
        __atomic_clear(&in_use, __ATOMIC_RELEASE);
    }

    static void begin_anew(void)
    {
        if (__atomic_load_n(&in_use, __ATOMIC_RELAXED)) {
            memset(shelves, 0, sizeof shelves);
            kept = 0;
            leave();
        }
    }

    /* The next larger of 8 sizes per power of two, and its shelf. */
    static size_t capacity_of(size_t size, int *shelf)
    {
        int power = 63 - __builtin_clzll(size);
        size_t step = (size_t)1 << (power - 3);
        size_t capacity = (size + step - 1) & ~(step - 1);
        power = 63 - __builtin_clzll(capacity);
        *shelf = 8 * (power - 20) + (int)((capacity >> (power - 3)) & 7);
        return capacity;
    }

    static void *fresh(size_t capacity)
    {
    #ifdef _WIN32
        return malloc(capacity);
    #else
        void *memory = NULL;
        if (posix_memalign(&memory, capacity < LARGE ? 64 : HUGE_PAGE, capacity))
            return NULL;
    #ifdef MADV_HUGEPAGE
        if (capacity >= LARGE)
            madvise(memory, capacity, MADV_HUGEPAGE);
    #endif
        return memory;
    #endif
    }

    static void *take(void *ctx, size_t size)
    {
        Block *block = NULL;
        int shelf = -1;
        size_t capacity = size + HEADER;
        if (capacity < size || size > PY_SSIZE_T_MAX / 2)
            return NULL;
        if (capacity >= SMALLEST) {
            capacity = capacity_of(capacity, &shelf);
            if (shelf < SHELVES && enter()) {
                block = shelves[shelf];
                if (block) {
                    shelves[shelf] = block->next;
                    kept -= capacity;
                }
                leave();
            }
        }
        if (!block)
            block = fresh(capacity);
        if (!block)
            return NULL;
        block->capacity = capacity;
        return (char *)block + HEADER;
    }

    static void give(void *ctx, void *memory, size_t size)
    {
        if (!memory)
            return;
        Block *block = (Block *)((char *)memory - HEADER);
        int shelf = SHELVES, shelved = 0;
        if (block->capacity >= SMALLEST)
            capacity_of(block->capacity, &shelf);
        if (shelf < SHELVES && enter()) {
            if (kept + block->capacity <= MOST_KEPT) {
                block->next = shelves[shelf];
                shelves[shelf] = block;
                kept += block->capacity;
                shelved = 1;
            }
            leave();
        }
        if (!shelved)
            free(block);
    }

    static void *take_zeros(void *ctx, size_t count, size_t size)
    {
        void *memory = size && count > (size_t)-1 / size ? NULL : take(ctx, count * size);
        return memory ? memset(memory, 0, count * size) : NULL;
    }

    static void *take_instead(void *ctx, void *memory, size_t size)
    {
        void *other = take(ctx, size);
        if (memory && other) {
            size_t most = ((Block *)((char *)memory - HEADER))->capacity - HEADER;
            memcpy(other, memory, size < most ? size : most);
            give(ctx, memory, 0);
        }
        return other;
    }

    static size_t release_all(void)
    {
        size_t released = 0;
        if (!enter())
            return 0;
        for (int shelf = 0; shelf < SHELVES; ++shelf)
            while (shelves[shelf]) {
                Block *block = shelves[shelf];
                shelves[shelf] = block->next;
                released += block->capacity;
                free(block);
            }
        kept = 0;
        leave();
        return released;
    }

    static size_t bytes_kept(void)
    {
        return kept;
    }

    static PyDataMem_Handler handler = {
        "cnnfast", 1, {NULL, take, take_zeros, take_instead, give}
    };

    static void prepare_for_forks(void)
    {
    #ifndef _WIN32
        pthread_atfork(NULL, NULL, begin_anew);
    #endif
    }
    """
    void* handler_address "&handler"
    void prepare_for_forks()
    size_t release_all()
    size_t bytes_kept()
    PyObject* PyDataMem_SetHandler(PyObject* handler)


cdef object _handler = PyCapsule_New(handler_address, "mem_handler", NULL)
prepare_for_forks()


def empty(shape, dtype):
    """``numpy.empty(shape, dtype)`` in memory that is used again."""
    cdef PyObject* before = PyDataMem_SetHandler(<PyObject*>_handler)
    if before == NULL:
        raise MemoryError
    try:
        return np.empty(shape, dtype)
    finally:
        Py_XDECREF(PyDataMem_SetHandler(before))
        Py_XDECREF(before)


def release():
    """Give back what the shelves hold, and return how many bytes that was."""
    return release_all()


def kept():
    """Bytes that the shelves hold."""
    return bytes_kept()
