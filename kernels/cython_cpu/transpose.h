/* Matrices transposed in registers, a block of BLOCK x BLOCK elements at a time, for microkernel.h
 * and wgrad.h. Included once per dtype and instruction set.
 */
#undef BLOCK
#undef PIECE
#undef PIECE_MASK
#undef ROW_OF
#if HAS_AVX512
/* Its masks take the blocks at the edges too. */
#define BLOCK LANES
#define PIECE VECTOR
#define PIECE_MASK MASK
#else
/* Without two loads and stores of 16 bytes instead of one of 32 there would be shuffles between
 * the halves of a vector, which cost more. */
#define BLOCK (LANES / 2)
#define PIECE HALF
#define PIECE_MASK HALF_MASK
#endif

/* Every round interleaves the first half of the rows with the second, within 16 bytes or of 16
 * bytes each, whatever the instructions do without crossing lanes; so the rows go in, and the
 * columns come out, in another order: place p is row ROW_OF(p). */
#if BLOCK == 16
#define ROW_OF(p) (((p) & 1) << 3 | ((p) & 2) << 1 | ((p) & 8) >> 2 | ((p) & 4) >> 2)
#elif BLOCK == 8
#define ROW_OF(p) (((p) & 1) << 2 | ((p) & 2) | ((p) & 4) >> 2)
#else
#define ROW_OF(p) (p)
#endif

#ifndef ROUND
/* Out-channels of a weight panel. */
#define WIDTH ((int)(64 / sizeof(REAL)))
#define SHUFFLE_PIECES(...) SHUFFLE(PIECE_MASK, low, high, __VA_ARGS__)
#define ROUND(FIRST, SECOND)                                          \
    for (int j = 0; j < BLOCK / 2; j++) {                             \
        const PIECE low = place[j], high = place[j + BLOCK / 2];      \
        next[2 * j] = FIRST;                                          \
        next[2 * j + 1] = SECOND;                                     \
    }                                                                 \
    memcpy(place, next, sizeof next);

#define copy_transposed(to, to_stride, from, stride_i, stride_j, rows, columns) \
    SELECT_READ(copy_transposed, from)((void *)(to), to_stride, from, stride_i, stride_j, rows, columns)
#define pack_taps(to, from, stride_k, rows, channels, taps, all) \
    SELECT_READ(pack_taps, from)((void *)(to), from, stride_k, rows, channels, taps, all)
#define pack_columns(to, from, stride_k, stride_c, rows, channels) \
    SELECT_READ(pack_columns, from)((void *)(to), from, stride_k, stride_c, rows, channels)
#define pack_rows(to, from, stride_c, rows, channels) \
    SELECT_READ(pack_rows, from)((void *)(to), from, stride_c, rows, channels)
#define pack_spread(to, from, stride_k, stride_c, rows, channels, tap_at, span) \
    SELECT(pack_spread, from)((void *)(to), from, stride_k, stride_c, rows, channels, tap_at, span)
#endif

#if HAS_AVX512
/* Write the first `count` elements two apart, and nothing between them. */
INLINE void NAME(store_apart)(REAL *to, VECTOR vector, int64_t count)
{
    const uint64_t mask = 0x55555555 & (((uint64_t)1 << 2 * count) - 1);
    INTRINSIC(mask_storeu)
    (to, mask & ((1u << LANES) - 1), AS_INTRINSIC(NAME(twice_low)(vector)));
    if (2 * count > LANES)
        INTRINSIC(mask_storeu)
        (to + LANES, mask >> LANES, AS_INTRINSIC(NAME(twice_high)(vector)));
}
#endif

/* Vector i becomes the elements i of the BLOCK vectors. */
INLINE void NAME(transpose)(PIECE *row)
{
    PIECE place[BLOCK], next[BLOCK];
    for (int p = 0; p < BLOCK; p++)
        place[p] = row[ROW_OF(p)];
#if BLOCK == 16
    for (int round = 0; round < 2; round++) {
        ROUND(SHUFFLE_PIECES(0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29),
              SHUFFLE_PIECES(2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31))
    }
    for (int round = 0; round < 2; round++) {
        ROUND(SHUFFLE_PIECES(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
              SHUFFLE_PIECES(4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31))
    }
#elif BLOCK == 8
    ROUND(SHUFFLE_PIECES(0, 8, 2, 10, 4, 12, 6, 14), SHUFFLE_PIECES(1, 9, 3, 11, 5, 13, 7, 15))
    for (int round = 0; round < 2; round++) {
        ROUND(SHUFFLE_PIECES(0, 1, 4, 5, 8, 9, 12, 13), SHUFFLE_PIECES(2, 3, 6, 7, 10, 11, 14, 15))
    }
#elif BLOCK == 4
    for (int round = 0; round < 2; round++) {
        ROUND(SHUFFLE_PIECES(0, 4, 1, 5), SHUFFLE_PIECES(2, 6, 3, 7))
    }
#else
    ROUND(SHUFFLE_PIECES(0, 2), SHUFFLE_PIECES(1, 3))
#endif
    for (int p = 0; p < BLOCK; p++)
        row[ROW_OF(p)] = place[p];
}

/* to[i * to_stride + j] = from[i + j * from_stride] for i < rows, j < columns, at most BLOCK each;
 * BLOCK each before AVX-512. */
INLINE void NAME(transpose_block)(REAL *to, int64_t to_stride, const REAL *from,
                                  int64_t from_stride, int64_t rows, int64_t columns)
{
    PIECE row[BLOCK];
#if HAS_AVX512
    const VECTOR none = {0};
    for (int j = 0; j < BLOCK; j++)
        row[j] = j < columns ? NAME(load_first)(from + j * from_stride, rows) : none;
    NAME(transpose)(row);
    for (int i = 0; i < BLOCK && i < rows; i++)
        NAME(store_first)(to + i * to_stride, row[i], columns);
#else
    for (int j = 0; j < BLOCK; j++)
        memcpy(&row[j], from + j * from_stride, sizeof row[j]);
    NAME(transpose)(row);
    for (int i = 0; i < BLOCK; i++)
        memcpy(to + i * to_stride, &row[i], sizeof row[i]);
#endif
}

/* to[i * to_stride + j] = from[i + j * from_stride] for i < rows, j < columns; before AVX-512 both
 * are at least BLOCK, and the last blocks begin early enough to end with the array. */
INLINE void NAME(transpose_all)(REAL *to, int64_t to_stride, const REAL *from, int64_t from_stride,
                                int64_t rows, int64_t columns)
{
    for (int64_t j = 0; j < columns; j += BLOCK)
        for (int64_t i = 0; i < rows; i += BLOCK) {
#if HAS_AVX512
            REAL *block = to + i * to_stride + j;
            const REAL *under = from + i + j * from_stride;
            const int64_t height = rows - i, breadth = columns - j;
            if (height >= BLOCK && breadth >= BLOCK)
                NAME(transpose_block)(block, to_stride, under, from_stride, BLOCK, BLOCK);
            else
                NAME(transpose_block)(block, to_stride, under, from_stride,
                                      height < BLOCK ? height : BLOCK,
                                      breadth < BLOCK ? breadth : BLOCK);
#else
            const int64_t first_i = i + BLOCK <= rows ? i : rows - BLOCK;
            const int64_t first_j = j + BLOCK <= columns ? j : columns - BLOCK;
            NAME(transpose_block)(to + first_i * to_stride + first_j, to_stride,
                                  from + first_i + first_j * from_stride, from_stride, BLOCK,
                                  BLOCK);
#endif
        }
}

/* to[i * to_stride + j] = from[i * stride_i + j * stride_j] for i < rows, j < columns. */
LOOP void NAME(copy_transposed)(REAL *restrict to, int64_t to_stride, const REAL *restrict from,
                                int64_t stride_i, int64_t stride_j, int64_t rows, int64_t columns)
{
    const int64_t least = HAS_AVX512 ? 2 : BLOCK;
    if (stride_j == 1 && columns * sizeof(REAL) >= 16) {
        if (stride_i == columns && to_stride == columns) {
            columns *= rows;
            rows = 1;
        }
        for (int64_t i = 0; i < rows; i++)
            memcpy(to + i * to_stride, from + i * stride_i, columns * sizeof(REAL));
    } else if (stride_i == 1 && rows >= least && columns >= least)
        NAME(transpose_all)(to, to_stride, from, stride_j, rows, columns);
    else
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < rows; i++)
                to[i * to_stride + j] = from[i * stride_i + j * stride_j];
}

/* to[c][k] = from[k * stride_k + c * stride_c] for k < rows, c < channels; the other k of a panel stay
 * as they are. */
LOOP void NAME(pack_columns)(REAL *restrict to, const REAL *restrict from, int64_t stride_k,
                             int64_t stride_c, int64_t rows, int64_t channels)
{
    NAME(copy_transposed)(to, WIDTH, from, stride_c, stride_k, channels, rows);
}

/* Where the transposed columns of a block go: the next one to `to` + tap * channels + c. */
typedef struct {
    int64_t c, tap;
} NAME(Column);

/* A block of pack_taps, `rows` x `columns` of it used. */
INLINE NAME(Column) NAME(pack_block)(REAL *restrict to, const REAL *restrict from,
                                     int64_t stride_k, int64_t rows, int64_t columns,
                                     int64_t channels, int64_t taps, NAME(Column) at)
{
    PIECE row[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        REAL edge[BLOCK] = {0};
        if (i < rows && columns < BLOCK)
            memcpy(edge, from + i * stride_k, columns * sizeof(REAL));
        memcpy(&row[i], i < rows && columns == BLOCK ? from + i * stride_k : edge, sizeof row[i]);
    }
    NAME(transpose)(row);
    for (int i = 0; i < BLOCK && i < columns; i++) {
        memcpy(to + (at.tap * channels + at.c) * WIDTH, &row[i], sizeof row[i]);
        if (++at.tap == taps) {
            at.tap = 0;
            at.c++;
        }
    }
    return at;
}

/* to[tap][c][k] = from[k * stride_k + c * taps + tap] for k < rows, c < channels, zeros for the others
 * of a panel of WIDTH: weights whose taps and channels lie side by side, as in (K, C, R, S). A tap
 * has `all` channels. */
LOOP void NAME(pack_taps)(REAL *restrict to, const REAL *restrict from, int64_t stride_k,
                          int64_t rows, int64_t channels, int64_t taps, int64_t all)
{
    const int64_t length = channels * taps;
    for (int64_t k = 0; k < WIDTH; k += BLOCK) {
        const int64_t height = rows - k;
        NAME(Column) at = {0, 0};
        for (int64_t j = 0; j < length; j += BLOCK)
            if (height >= BLOCK && length - j >= BLOCK)
                at = NAME(pack_block)(to + k, from + k * stride_k + j, stride_k, BLOCK, BLOCK, all,
                                      taps, at);
            else
                at = NAME(pack_block)(to + k, from + k * stride_k + j, stride_k, height,
                                      length - j < BLOCK ? length - j : BLOCK, all, taps, at);
    }
}

/* to[tap][c][k] = from[k * stride_k + c * stride_c + i] where tap = tap_at[i] is none of -1, for
 * i < span, k < rows; zeros for the other k of a panel. Such are the weights of a gradient, whose
 * channels have changed places: their taps lie side by side, backwards or every other of them.
 * Both ends of the span are taps. */
LOOP void NAME(pack_spread)(REAL *restrict to, const REAL *restrict from, int64_t stride_k,
                            int64_t stride_c, int64_t rows, int64_t channels,
                            const int64_t *tap_at, int64_t span)
{
    for (int64_t first = 0, columns; first < span; first += columns) {
        columns = span - first < BLOCK ? span - first : BLOCK;
        while (columns > 1 && tap_at[first + columns - 1] < 0)
            columns--;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t k = 0; k < WIDTH; k += BLOCK) {
                const REAL *under = from + c * stride_c + k * stride_k + first;
                PIECE row[BLOCK];
                for (int j = 0; j < BLOCK; j++) {
                    REAL edge[BLOCK] = {0};
                    const int64_t read = k + j < rows ? columns : 0;
                    /* Rows of the next channels are far away in memory. */
                    __builtin_prefetch(under + 4 * stride_c + j * stride_k);
#if HAS_AVX512
                    row[j] = NAME(load_first)(read ? under + j * stride_k : edge, read);
#else
                    if (read < BLOCK)
                        memcpy(edge, under + j * stride_k, read * sizeof(REAL));
                    memcpy(&row[j], read < BLOCK ? edge : under + j * stride_k, sizeof row[j]);
#endif
                }
                NAME(transpose)(row);
                for (int i = 0; i < BLOCK && i < columns; i++)
                    if (tap_at[first + i] >= 0)
                        memcpy(to + (tap_at[first + i] * channels + c) * WIDTH + k, &row[i],
                               sizeof row[i]);
            }
    }
}

/* to[c][k] = from[k + c * stride_c] for k < rows, zeros for the other k of a panel: out-channels that
 * lie side by side, as in (R, S, C, K). */
LOOP void NAME(pack_rows)(REAL *restrict to, const REAL *restrict from, int64_t stride_c,
                          int64_t rows, int64_t channels)
{
    for (int64_t c = 0; c < channels; c++, from += stride_c, to += WIDTH) {
        __builtin_prefetch(from + 16 * stride_c);
        for (int k = 0; k < WIDTH; k += LANES) {
            const int64_t left = rows - k < 0 ? 0 : rows - k;
            NAME(store)(to + k, left >= LANES ? NAME(load)(from + k)
                                              : NAME(load_first)(from + (left ? k : 0), left));
        }
    }
}
