/* The lower medians of many short rows, and the worse of two directions.
 *
 * The result is made in pairs of tiles on either side of the diagonal, small enough to stay in a processor's cache;
 * several threads may each finish tiles of one result. */
#ifndef MLNET_PINGMATRIX_H
#define MLNET_PINGMATRIX_H

#include <stddef.h>
#include <stdint.h>

enum { MLNET_TILE = 128 }; /* rows and columns: both tiles of medians take 128 KiB */

/* An (n, n, k) array of samples, strides in bytes. A negative sample is missing. */
typedef struct {
    const char *data;
    ptrdiff_t n, k, stride_i, stride_j, stride_k;
} mlnet_samples;

/* What one thread needs. */
typedef struct mlnet_scratch mlnet_scratch;

/* Takes the fastest code for this processor, or the portable code; to be called before any other function, and not
 * while a thread aggregates. Returns the name of what it took. */
const char *mlnet_median_select(int portable);

/* For rows of k samples; NULL when memory is exhausted. To be freed by mlnet_scratch_free, which takes NULL too. */
mlnet_scratch *mlnet_scratch_new(ptrdiff_t k);
void mlnet_scratch_free(mlnet_scratch *scratch);

/* Finishes two tiles of the result, an (n, n) array: the rows from i and the columns from j >= i on, and the other
 * way round. Both are multiples of MLNET_TILE. */
void mlnet_tiles(const mlnet_samples *samples, ptrdiff_t i, ptrdiff_t j, mlnet_scratch *scratch, int64_t *out);

#endif
