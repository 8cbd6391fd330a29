/* Leaf hashes of a part of a file: mapped, so that nothing is copied, or read. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* Linux 5.14; older C libraries do not name it, older kernels answer EINVAL. */
#if defined(__linux__) && !defined(MADV_POPULATE_READ)
#define MADV_POPULATE_READ 22
#endif

/* Maps and hashes; 0 where that cannot be done. All pages are read by madvise first: where one cannot be, that fails,
 * instead of a SIGBUS in the midst of hashing, which would end the process. */
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

int mlnet_file_leaf_hashes(int file, off_t start, size_t size, int mapped, uint8_t *hashes) {
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
