/* Scratch: the memory that packed panels live in.
 *
 * Each thread that computes keeps one buffer and grows it, so that running a plan allocates nothing after
 * the first time. Buffers of megabytes ask for huge pages: panels are read straight through, again and
 * again, and 4 KiB pages would miss the TLB all the way. */
#ifndef NJ_SCRATCH_H
#define NJ_SCRATCH_H

#include <stddef.h>

enum { NJ_SCRATCH_ALIGNMENT = 64 };

/* This thread's scratch of at least `bytes`, 64-byte aligned, kept until the thread ends; or NULL, and the
 * scratch it had is kept. Growing does not keep the contents. */
void *nj_thread_scratch(size_t bytes);

/* Make the next `count` growths of scratch fail, on any thread: for tests. */
void nj_thread_scratch_inject(int count);

#endif
