/* Leaf hashes of a part of a file: mapped, so that nothing is copied, or read. */
#ifndef MLNET_SEGMENTFILE_H
#define MLNET_SEGMENTFILE_H

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sha256.h"

#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

enum { MLNET_FILE_ENDED = -1 };

/* Maps and hashes; 0 where that cannot be done. A page that cannot be read fails in madvise, not as a signal later. */
static int mlnet_mapped_leaf_hashes(int file, off_t start, size_t size, uint8_t *hashes) {
    int done = 0;
#ifdef MADV_POPULATE_READ
    void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, file, start);
    if (data == MAP_FAILED) return 0;
    if (madvise(data, size, MADV_POPULATE_READ) == 0) {
        mlnet_leaf_hashes((const uint8_t *)data, size, hashes);
        done = 1;
    }
    munmap(data, size);
#else
    (void)file, (void)start, (void)size, (void)hashes;
#endif
    return done;
}

/* The hashes of the leaves of `size` > 0 bytes from `start` on, a multiple of the size of a leaf. Maps them only if
 * `mapped` says that nobody can shorten the file meanwhile. Returns 0, an errno, or MLNET_FILE_ENDED. */
static int mlnet_file_leaf_hashes(int file, off_t start, size_t size, int mapped, uint8_t *hashes) {
    const size_t room = MLNET_STREAMS * (size_t)MLNET_LEAF_SIZE;
    if (mapped && mlnet_mapped_leaf_hashes(file, start, size, hashes)) return 0;
    uint8_t *buffer = (uint8_t *)malloc(size < room ? size : room);
    int error = buffer ? 0 : ENOMEM;
    while (size > 0 && !error) {
        const size_t wanted = size < room ? size : room;
        size_t filled = 0;
        while (filled < wanted && !error) {
            const ssize_t got = pread(file, buffer + filled, wanted - filled, start + (off_t)filled);
            if (got > 0)
                filled += (size_t)got;
            else if (got == 0)
                error = MLNET_FILE_ENDED;
            else if (errno != EINTR)
                error = errno;
        }
        if (!error) mlnet_leaf_hashes(buffer, wanted, hashes);
        hashes += MLNET_STREAMS * MLNET_HASH;
        start += (off_t)wanted;
        size -= wanted;
    }
    free(buffer);
    return error;
}

#endif /* MLNET_SEGMENTFILE_H */
