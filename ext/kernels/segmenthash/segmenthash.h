/* Hashes of segments: SHA-256 (FIPS 180-4) in the Merkle tree of RFC 6962, section 2.1, over leaves of 1 MiB.
 *
 * A tree, so that leaves are hashed side by side, by threads and within one, and a leaf can be checked alone. Leaves
 * of 1 MiB: a hash of 32 bytes for each is no overhead, and a small segment still occupies several threads. */
#ifndef MLNET_SEGMENTHASH_H
#define MLNET_SEGMENTHASH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MLNET_LEAF_SIZE = 1 << 20, MLNET_HASH = 32, MLNET_FILE_ENDED = -1 };

/* Takes the fastest code for this processor, or the portable code; to be called before any other function, and not
 * while a thread is hashing. Returns the name of what it took. */
const char *mlnet_sha256_select(int portable);

/* Writes the hashes of the leaves of `size` > 0 bytes; the last leaf may be short. */
void mlnet_leaf_hashes(const uint8_t *data, size_t size, uint8_t *hashes);

/* The same for a part of a file from `start` on, a multiple of MLNET_LEAF_SIZE. It is mapped only if `mapped` says
 * that nobody can shorten the file meanwhile. Returns 0, an errno, or MLNET_FILE_ENDED. */
int mlnet_file_leaf_hashes(int file, off_t start, size_t size, int mapped, uint8_t *hashes);

/* Writes the root over `count` leaf hashes: MTH of RFC 6962, section 2.1; of none, the hash of nothing. */
void mlnet_tree_root(const uint8_t *hashes, size_t count, uint8_t *root);

#endif
