/* The loops of the tiled wgrad row: a register tile of weights over the pixels of a unit, and the
 * copies that it reads.
 *
 * A tile is up to 12 weights of neighbouring in-channels (or taps) x two panels of out-channels;
 * with 32 registers of 64 bytes its 24 vectors of sums stay there while the pixels go by, and a step
 * costs 12 broadcasts, 2 loads and 24 multiply-adds. With 16 registers of 32 bytes it is cut into
 * tiles of 6 weights x a panel. Included once per dtype and instruction set (instruction_sets.h).
 */
#ifndef MOST_WEIGHTS
#define MOST_WEIGHTS 12

/* The output pixels of a unit, and what a step to the next row and column moves in the copied input;
 * elements from a panel of packed gradients to the next, and from a panel of sums to the next. */
typedef struct {
    int64_t rows, columns;
    int64_t x_row, x_column;
    int64_t grad_panel, sum_panel;
} Pixels;

#define sum_tile(sums, pitch, x, grad, pixels, weights, panels, resume) \
    SELECT(sum_tile, sums)(sums, pitch, x, grad, pixels, weights, panels, resume)
#define add_to(to, from, count) SELECT(add_to, to)(to, from, count)
#endif

#undef PANEL_VECTORS
#if VECTOR_BYTES == 64
#define PANEL_VECTORS 1
#else
#define PANEL_VECTORS 2
#endif
#define PANEL (PANEL_VECTORS * LANES)

/* sums[m * pitch + v * sum_panel ..] (+)= sum over the pixels of x[pixel + m] * grad[v][pixel][..],
 * for `weights` m and `panels` v; `resume` goes on from the former sums. */
INLINE void NAME(multiply)(REAL *sums, int64_t pitch, const REAL *x, const REAL *grad,
                           const Pixels *pixels, int resume, const int weights, const int panels)
{
    VECTOR sum[MOST_WEIGHTS][2];
    const REAL *second = grad + (panels == 2 && PANEL_VECTORS == 1 ? pixels->grad_panel : LANES);
    const int64_t apart = panels == 2 && PANEL_VECTORS == 1 ? pixels->sum_panel : LANES;
    const int vectors = panels * PANEL_VECTORS;
#pragma GCC unroll 12
    for (int m = 0; m < weights; m++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[m][v] = resume ? NAME(load)(sums + m * pitch + v * apart) : (VECTOR){0};

    int64_t p = pixels->rows;
    do {
        const REAL *from = x;
        int64_t q = pixels->columns;
        /* Not unrolled: GCC 12 spills sums when it does. */
#pragma GCC unroll 1
        do {
            const VECTOR first = NAME(load)(grad);
            const VECTOR other = vectors == 2 ? NAME(load)(second) : first;
#pragma GCC unroll 12
            for (int m = 0; m < weights; m++) {
                const VECTOR value = NAME(splat)(from[m]);
                sum[m][0] = NAME(multiply_add)(value, first, sum[m][0]);
                if (vectors == 2)
                    sum[m][1] = NAME(multiply_add)(value, other, sum[m][1]);
            }
            from += pixels->x_column;
            grad += PANEL;
            second += PANEL;
        } while (--q);
        x += pixels->x_row;
    } while (--p);

#pragma GCC unroll 12
    for (int m = 0; m < weights; m++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            NAME(store)(sums + m * pitch + v * apart, sum[m][v]);
}

#define TILE(weights, panels)                                                                    \
    LOOP void NAME(tile_##weights##_##panels)(REAL *sums, int64_t pitch, const REAL *x,          \
                                              const REAL *grad, const Pixels *pixels, int resume) \
    {                                                                                            \
        NAME(multiply)(sums, pitch, x, grad, pixels, resume, weights, panels);                   \
    }
#define TILES(panels)                                                                         \
    TILE(1, panels) TILE(2, panels) TILE(3, panels) TILE(4, panels) TILE(5, panels) TILE(6, panels)
#define MORE_TILES(panels)                                                                     \
    TILE(7, panels) TILE(8, panels) TILE(9, panels) TILE(10, panels) TILE(11, panels)          \
    TILE(12, panels)
#define NAMES(panels)                                                                         \
    NAME(tile_1_##panels), NAME(tile_2_##panels), NAME(tile_3_##panels), NAME(tile_4_##panels), \
        NAME(tile_5_##panels), NAME(tile_6_##panels)
#define MORE_NAMES(panels)                                                                      \
    NAME(tile_7_##panels), NAME(tile_8_##panels), NAME(tile_9_##panels), NAME(tile_10_##panels), \
        NAME(tile_11_##panels), NAME(tile_12_##panels)

TILES(1)
#if PANEL_VECTORS == 1
TILES(2)
MORE_TILES(1)
MORE_TILES(2)
#endif

/* A tile of up to MOST_WEIGHTS weights and 2 panels. */
LOOP void NAME(sum_tile)(REAL *sums, int64_t pitch, const REAL *x, const REAL *grad,
                         const Pixels *pixels, int64_t weights, int64_t panels, int resume)
{
    typedef void Tile(REAL *, int64_t, const REAL *, const REAL *, const Pixels *, int);
#if PANEL_VECTORS == 1
    static Tile *const tiles[2][12] = {{NAMES(1), MORE_NAMES(1)}, {NAMES(2), MORE_NAMES(2)}};
    tiles[panels - 1][weights - 1](sums, pitch, x, grad, pixels, resume);
#else
    static Tile *const tiles[6] = {NAMES(1)};
    for (int64_t panel = 0; panel < panels; panel++)
        for (int64_t m = 0; m < weights; m += 6)
            tiles[(weights - m < 6 ? weights - m : 6) - 1](
                sums + panel * pixels->sum_panel + m * pitch, pitch, x + m,
                grad + panel * pixels->grad_panel, pixels, resume);
#endif
}

#include "transpose.h"

/* to[i] += from[i] for i < count. */
LOOP void NAME(add_to)(REAL *restrict to, const REAL *restrict from, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] += from[i];
}
