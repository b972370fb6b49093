/* The dtypes that are stored and not computed in, as types of their own for _Generic. */
#ifndef CNNFAST_STORED_H
#define CNNFAST_STORED_H

#include <stdint.h>
#include <string.h>

typedef struct {
    uint16_t bits;
} float16;
typedef struct {
    uint16_t bits;
} bfloat16;

/* Copy 0 to 32 bytes in at most two moves that overlap. */
static inline void copy_bytes(void *to, const void *from, int64_t bytes)
{
    char *target = to;
    const char *source = from;
#define MOVES_OF(size)                                               \
    if (bytes >= size) {                                             \
        char first[size], last[size];                                \
        memcpy(first, source, size);                                 \
        memcpy(last, source + bytes - size, size);                   \
        memcpy(target, first, size);                                 \
        memcpy(target + bytes - size, last, size);                   \
        return;                                                      \
    }
    MOVES_OF(16)
    MOVES_OF(8)
    MOVES_OF(4)
    MOVES_OF(2)
    MOVES_OF(1)
#undef MOVES_OF
}

#endif
