/* Operands beside C: the bias, residual ... that a kernel's epilogue reads. Their addresses follow C's in the
 * kernel's buffers; what cuts C into parts moves each of them along with steps of its own. */
#ifndef NJ_BESIDE_H
#define NJ_BESIDE_H

enum { NJ_MOST_BESIDE = 4 };

#endif
