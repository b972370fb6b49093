/* The dtypes that are stored and not computed in, as types of their own for _Generic. */
#ifndef CNNFAST_STORED_H
#define CNNFAST_STORED_H

#include <stdint.h>

typedef struct {
    uint16_t bits;
} float16;
typedef struct {
    uint16_t bits;
} bfloat16;

#endif
