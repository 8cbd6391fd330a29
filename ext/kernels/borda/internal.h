/* What ranking.c and counting.c share. */
#ifndef MLNET_BORDA_INTERNAL_H
#define MLNET_BORDA_INTERNAL_H

#include <string.h>

#include "../compiler.h"
#include "borda.h"

/* A row as an array: itself, or a copy where its elements of `size` bytes lie apart or are not aligned. */
MLNET_INLINE const void *mlnet_row(const char *from, ptrdiff_t stride, ptrdiff_t count, size_t size, void *copy) {
    if (stride == (ptrdiff_t)size && (uintptr_t)from % size == 0) return from;
    for (ptrdiff_t i = 0; i < count; i++) memcpy((char *)copy + (size_t)i * size, from + i * stride, size);
    return copy;
}

#endif
