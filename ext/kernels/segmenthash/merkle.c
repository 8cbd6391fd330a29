/* The tree over leaves in memory. */
#include <string.h>

#include "internal.h"

/* SHA-256 of one prefix byte and the data: 0x00 for a leaf, 0x01 for a node (RFC 6962, section 2.1), so that no leaf
 * can pass for a node. The prefix shifts the data against the blocks; only the first block is copied for that. */
static void mlnet_prefixed(uint8_t prefix, const uint8_t *data, size_t size, uint8_t *hash) {
    uint32_t state[8];
    uint8_t first[MLNET_BLOCK] = {prefix};
    memcpy(state, mlnet_sha256_initial, sizeof state);
    if (size < MLNET_BLOCK - 1) {
        if (size > 0) memcpy(first + 1, data, size);
        mlnet_finish(state, first, size + 1, size + 1, hash);
        return;
    }
    memcpy(first + 1, data, MLNET_BLOCK - 1);
    mlnet_compress(state, first, 1);
    size_t blocks = (size + 1) / MLNET_BLOCK - 1;
    mlnet_compress(state, data + MLNET_BLOCK - 1, blocks);
    size_t done = MLNET_BLOCK - 1 + blocks * MLNET_BLOCK;
    mlnet_finish(state, data + done, size - done, (uint64_t)size + 1, hash);
}

#ifdef MLNET_X86_64
/* The hashes of two or three full leaves, one after the other in memory. */
static void mlnet_leaves_at_once(const uint8_t *data, int count, uint8_t *hashes) {
    enum { BLOCKS = MLNET_LEAF_SIZE / MLNET_BLOCK - 1, DONE = MLNET_BLOCK - 1 + BLOCKS * MLNET_BLOCK };
    uint32_t state[MLNET_STREAMS][8];
    uint8_t prefixed[MLNET_STREAMS][MLNET_BLOCK] = {{0}, {0}, {0}};
    const uint8_t *first[MLNET_STREAMS], *rest[MLNET_STREAMS];
    for (int i = 0; i < MLNET_STREAMS; i++) {
        /* Of two leaves, the second goes twice: that takes less time than one after the other. */
        const uint8_t *leaf = data + (size_t)(i < count ? i : count - 1) * MLNET_LEAF_SIZE;
        memcpy(state[i], mlnet_sha256_initial, sizeof state[i]);
        memcpy(prefixed[i] + 1, leaf, MLNET_BLOCK - 1);
        first[i] = prefixed[i];
        rest[i] = leaf + MLNET_BLOCK - 1;
    }
    mlnet_compress_ni_three(state, first, 1);
    mlnet_compress_ni_three(state, rest, BLOCKS);
    for (int i = 0; i < count; i++)
        mlnet_finish(state[i], data + (size_t)i * MLNET_LEAF_SIZE + DONE, MLNET_LEAF_SIZE - DONE, MLNET_LEAF_SIZE + 1,
                     hashes + i * MLNET_HASH);
}
#endif

void mlnet_leaf_hashes(const uint8_t *data, size_t size, uint8_t *hashes) {
#ifdef MLNET_X86_64
    while (mlnet_use_three && size >= 2 * (size_t)MLNET_LEAF_SIZE) {
        const int count = size >= 3 * (size_t)MLNET_LEAF_SIZE ? 3 : 2;
        mlnet_leaves_at_once(data, count, hashes);
        data += (size_t)count * MLNET_LEAF_SIZE;
        size -= (size_t)count * MLNET_LEAF_SIZE;
        hashes += count * MLNET_HASH;
    }
#endif
    while (size > 0) {
        size_t leaf = size < MLNET_LEAF_SIZE ? size : MLNET_LEAF_SIZE;
        mlnet_prefixed(0x00, data, leaf, hashes);
        data += leaf;
        size -= leaf;
        hashes += MLNET_HASH;
    }
}

/* The perfect subtrees that the bits of the count stand for are merged as they fill, and the rest from the right: the
 * stack holds one hash a bit, whatever the count. */
void mlnet_tree_root(const uint8_t *hashes, size_t count, uint8_t *root) {
    uint8_t stack[8 * sizeof(size_t) + 1][MLNET_HASH];
    uint8_t children[2 * MLNET_HASH];
    size_t depth = 0;
    for (size_t leaf = 0; leaf < count; leaf++) {
        memcpy(stack[depth++], hashes + leaf * MLNET_HASH, MLNET_HASH);
        int last = leaf + 1 == count;
        for (size_t filled = leaf + 1; depth > 1 && (last || !(filled & 1)); filled >>= 1) {
            memcpy(children, stack[depth - 2], MLNET_HASH);
            memcpy(children + MLNET_HASH, stack[depth - 1], MLNET_HASH);
            mlnet_prefixed(0x01, children, sizeof children, stack[depth - 2]);
            depth--;
        }
    }
    if (count > 0) {
        memcpy(root, stack[0], MLNET_HASH);
    } else {
        uint32_t state[8];
        memcpy(state, mlnet_sha256_initial, sizeof state);
        mlnet_finish(state, NULL, 0, 0, root);
    }
}
