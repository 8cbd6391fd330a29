/* What the kernels ask of compiler and processor.
 *
 * One build must run on every x86-64 processor, so code for newer ones is compiled beside the portable code and
 * chosen at run time. It is marked function by function, not by a compiler option a file: setuptools has none, and a
 * whole file for AVX2 would let the compiler use it in inline functions that others share. */
#ifndef MLNET_COMPILER_H
#define MLNET_COMPILER_H

#if defined(__GNUC__) || defined(__clang__)
/* A body that is compiled into several functions for different processors must be inlined into each. */
#define MLNET_INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define MLNET_X86_64 1
#define MLNET_TARGET(instructions) __attribute__((target(instructions)))
#endif
#else
#define MLNET_INLINE static inline
#endif

#ifdef MLNET_X86_64
/* Whether to run the code for AVX2. Each extension that has such code defines it once. */
extern int mlnet_use_avx2;
#endif

/* Decides by the processor, unless the portable code is asked for; returns the name of what will run. */
static inline const char *mlnet_choose_avx2(int portable) {
#ifdef MLNET_X86_64
    mlnet_use_avx2 = !portable && __builtin_cpu_supports("avx2");
    if (mlnet_use_avx2) return "avx2";
#else
    (void)portable;
#endif
    return "portable";
}

#endif
