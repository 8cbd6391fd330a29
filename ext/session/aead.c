/* ChaCha20-Poly1305 (RFC 8439, section 2.8) for noise messages, by function pointer: libcrypto's, as the
 * interpreter's ssl module has loaded it, or libsodium's, as PyNaCl brings it. No cryptography is written here; both
 * compare tags in constant time, as RFC 8439, section 4, demands.
 *
 * By address, because an extension that was linked with either would depend on the version and place of a library
 * that differs between wheels; what is already in the process is certain to be there. */
#include "internal.h"

typedef int (*sodium_seal_t)(uint8_t *, unsigned long long *, const uint8_t *, unsigned long long, const uint8_t *,
                             unsigned long long, const uint8_t *, const uint8_t *, const uint8_t *);
typedef int (*sodium_open_t)(uint8_t *, unsigned long long *, uint8_t *, const uint8_t *, unsigned long long,
                             const uint8_t *, unsigned long long, const uint8_t *, const uint8_t *);
typedef int (*evp_init_t)(void *, void *, void *, const uint8_t *, const uint8_t *);
typedef int (*evp_update_t)(void *, uint8_t *, int *, const uint8_t *, int);
typedef int (*evp_final_t)(void *, uint8_t *, int *);

/* Exactly one of `sodium_seal` and `context_new` is set once a library has been chosen. */
static struct {
    sodium_seal_t sodium_seal;
    sodium_open_t sodium_open;
    void *(*context_new)(void);
    void (*context_free)(void *);
    void *(*cipher)(void);
    evp_init_t seal_init, open_init;
    evp_update_t seal_update, open_update;
    evp_final_t seal_final, open_final;
    int (*control)(void *, int, int, void *);
} aead;

/* As <openssl/evp.h> has them; they are part of libcrypto's ABI. */
enum { EVP_CTRL_AEAD_GET_TAG = 0x10, EVP_CTRL_AEAD_SET_TAG = 0x11 };

int aead_chosen(void) { return aead.sodium_seal || aead.context_new; }

void aead_use_sodium(const uintptr_t functions[2]) {
    memset(&aead, 0, sizeof aead);
    aead.sodium_seal = (sodium_seal_t)functions[0];
    aead.sodium_open = (sodium_open_t)functions[1];
}

void aead_use_crypto(const uintptr_t functions[10]) {
    memset(&aead, 0, sizeof aead);
    aead.context_new = (void *(*)(void))functions[0];
    aead.context_free = (void (*)(void *))functions[1];
    aead.cipher = (void *(*)(void))functions[2];
    aead.seal_init = (evp_init_t)functions[3];
    aead.seal_update = (evp_update_t)functions[4];
    aead.seal_final = (evp_final_t)functions[5];
    aead.open_init = (evp_init_t)functions[6];
    aead.open_update = (evp_update_t)functions[7];
    aead.open_final = (evp_final_t)functions[8];
    aead.control = (int (*)(void *, int, int, void *))functions[9];
}

void engine_end(engine_t *e) {
    if (e->seal) aead.context_free(e->seal);
    if (e->open) aead.context_free(e->open);
    e->seal = e->open = NULL;
}

int engine_start(engine_t *e) {
    e->seal = e->open = NULL;
    if (!aead.context_new) return 0;
    if ((e->seal = aead.context_new()) && (e->open = aead.context_new()) &&
        aead.seal_init(e->seal, aead.cipher(), NULL, NULL, NULL) == 1 &&
        aead.open_init(e->open, aead.cipher(), NULL, NULL, NULL) == 1)
        return 0;
    engine_end(e);
    return -1;
}

void cipher_start(cipher_t *c, const uint8_t key[KEY_BYTES], uint64_t counter) {
    memcpy(c->key, key, KEY_BYTES);
    c->counter = counter;
}

/* explicit_bzero, because a compiler may leave out a memset of what is freed next. */
void cipher_end(cipher_t *c) { explicit_bzero(c->key, sizeof c->key); }

/* The next nonce: four zero bytes and the counter, little endian (noise, section 12.3). -1 when there is none: noise
 * reserves the last one (section 5.1), and a nonce that comes twice under a key reveals both plaintexts and lets
 * anybody forge messages (RFC 8439, section 4). So the counter moves even if sealing fails afterwards. */
static int cipher_nonce(cipher_t *c, uint8_t nonce[12]) {
    if (c->counter == UINT64_MAX) return -1;
    memset(nonce, 0, 4);
    for (int i = 0; i < 8; i++) nonce[4 + i] = (uint8_t)(c->counter >> (8 * i));
    c->counter++;
    return 0;
}

/* Seals a message without associated data, of which transport messages have none (noise, section 5.2). Writes
 * size + TAG_BYTES bytes to `out`, which does not overlap `in`; -1 on failure. */
int cipher_seal(const engine_t *e, cipher_t *c, uint8_t *out, const uint8_t *in, int size) {
    uint8_t nonce[12];
    if (cipher_nonce(c, nonce)) return -1;
    if (aead.sodium_seal) {
        unsigned long long written;
        return aead.sodium_seal(out, &written, in, (unsigned long long)size, NULL, 0, NULL, nonce, c->key);
    }
    int done = 0, rest = 0;
    if (aead.seal_init(e->seal, NULL, NULL, c->key, nonce) != 1) return -1;   /* the cipher is that of engine_start */
    if (aead.seal_update(e->seal, out, &done, in, size) != 1) return -1;
    if (aead.seal_final(e->seal, out + done, &rest) != 1) return -1;
    return aead.control(e->seal, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out + size) == 1 ? 0 : -1;
}

/* Opens a message of `size` bytes with its tag. Writes size - TAG_BYTES bytes to `out`; -1 when it does not
 * authenticate: then `out` is not to be read, for libcrypto decrypts before it knows. */
int cipher_open(const engine_t *e, cipher_t *c, uint8_t *out, const uint8_t *in, int size) {
    uint8_t nonce[12];
    if (size < TAG_BYTES || cipher_nonce(c, nonce)) return -1;
    if (aead.sodium_open) {
        unsigned long long written;
        return aead.sodium_open(out, &written, NULL, in, (unsigned long long)size, NULL, 0, nonce, c->key);
    }
    int done = 0, rest = 0, plain = size - TAG_BYTES;
    if (aead.open_init(e->open, NULL, NULL, c->key, nonce) != 1) return -1;
    if (aead.open_update(e->open, out, &done, in, plain) != 1) return -1;
    if (aead.control(e->open, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, (void *)(in + plain)) != 1) return -1;
    return aead.open_final(e->open, out + done, &rest) == 1 ? 0 : -1;
}

/* Whether what was chosen is ChaCha20-Poly1305 as noise uses it: a wrong address or an odd build must be found before
 * a peer is. The tag is what libsodium and libcrypto both make of this message; one that was changed must not open. */
int aead_check(void) {
    static const uint8_t tag[TAG_BYTES] = {0x64, 0xc2, 0x62, 0x95, 0xd2, 0x71, 0xaf, 0x0c,
                                           0x19, 0x94, 0x4b, 0x9b, 0x90, 0x6c, 0x74, 0x8c};
    enum { SIZE = 65 };
    uint8_t key[KEY_BYTES], plain[SIZE], sealed[SIZE + TAG_BYTES], opened[SIZE];
    cipher_t out, in;
    engine_t engine;
    for (int i = 0; i < KEY_BYTES; i++) key[i] = (uint8_t)i;
    for (int i = 0; i < SIZE; i++) plain[i] = (uint8_t)i;
    if (engine_start(&engine)) return -1;
    cipher_start(&out, key, 7);
    cipher_start(&in, key, 7);
    int good = !cipher_seal(&engine, &out, sealed, plain, SIZE) && !memcmp(sealed + SIZE, tag, TAG_BYTES) &&
               !cipher_open(&engine, &in, opened, sealed, SIZE + TAG_BYTES) && !memcmp(opened, plain, SIZE);
    in.counter = 7;
    sealed[0] ^= 1;
    good = good && cipher_open(&engine, &in, opened, sealed, SIZE + TAG_BYTES);
    engine_end(&engine);
    return good ? 0 : -1;
}
