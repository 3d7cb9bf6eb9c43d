/* x86-64 instructions from form rows.
 *
 * The problem.  Legacy, VEX and EVEX instructions scatter register numbers over up to five bytes,
 * some inverted, some split in three; an encoder that knows these layouts is long and easy to get
 * wrong.
 *
 * The idea.  For one instruction form the encoding is an affine function of the register numbers
 * over GF(2): a pattern, the encoding with all registers 0, XOR one bit per set bit of a
 * register number.  A row holds the pattern and the position of each such bit, both learned from
 * another encoder.  Inverted fields need no mention: XOR flips what the pattern holds.  What is left to
 * know here is ModRM, SIB and disp8*N (Intel SDM vol. 2, 2.1.5 and 2.7.5).
 *
 * Invariants.  All register bits lie in the first 8 bytes.  A memory form's pattern is that of
 * [rax] and ends with ModRM; SIB, displacement, then immediate follow.  Operands are checked against
 * the row before a byte is written, and never masked. */
#ifndef NJ_X86_ENCODER_H
#define NJ_X86_ENCODER_H

#include "code_buffer.h"

enum { NJ_X86_PATTERN = 16, NJ_X86_REGISTER_BITS = 5, NJ_X86_LONGEST = 15 };

typedef enum { NJ_X86_REGISTERS = 0, NJ_X86_MEMORY, NJ_X86_BRANCH } nj_x86_shape;

typedef struct {
    uint8_t pattern[NJ_X86_PATTERN];
    uint8_t length;    /* of the pattern, which ends before displacement and immediate */
    uint8_t shape;     /* nj_x86_shape */
    uint8_t registers; /* register operands, masks included */
    uint8_t vectors;   /* which of them are vector registers, a bit for each */
    uint8_t bits[NJ_OPERANDS];
    uint8_t lowest[NJ_OPERANDS];                     /* 1 for masks: k0 would mean no mask */
    uint8_t flip[NJ_OPERANDS][NJ_X86_REGISTER_BITS]; /* position in the first 64 bits */
    uint8_t base_flip, index_flip;                   /* for bit 3 of base and index */
    uint8_t disp8_shift;                             /* log2 of disp8's unit */
    uint8_t immediate_bytes;                         /* 0, 1, 4 or 8 */
    uint8_t immediate_signed;
} nj_x86_form;

/* The form's requirements on `operands`; on failure code->fault tells the field's limits. */
nj_emit_status nj_x86_check(nj_code_buffer *code, const nj_x86_form *form, const nj_operands *operands);

/* Checks, encodes and appends one instruction. */
nj_emit_status nj_x86_emit(nj_code_buffer *code, const nj_x86_form *form, int id,
                           const nj_operands *operands);

/* Checks, and appends an encoding made elsewhere, of 1 to 15 bytes.  A field
 * that refers to a label is the last 4 bytes before the immediate. */
nj_emit_status nj_x86_append(nj_code_buffer *code, const nj_x86_form *form, int id,
                             const nj_operands *operands, const uint8_t *bytes, size_t length);

/* What differs between one repetition of a body and the next: displacements from base register r grow by
 * shift[r]; vector register r becomes following[r]; the immediates of instructions of `form` (-1: of none)
 * grow by `immediate`. */
typedef struct {
    int64_t shift[16];
    const uint8_t *following;
    int form, immediate;
} nj_x86_growth;

/* Emits the instructions from record `first` on again, `times` times, each time grown once more: an unrolled
 * loop, or the rows of a tile, whose body was emitted once. What is at a label stays what it is; branches,
 * padding and data cannot be repeated (NJ_WRONG_SHAPE). On failure nothing is emitted, and code->fault tells
 * the limit that was passed. */
nj_emit_status nj_x86_repeat(nj_code_buffer *code, const nj_x86_form *rows, size_t first, int times,
                             const nj_x86_growth *growth);

/* Multi-byte NOPs, for nj_code_align; of lengths of its own, whatever `nop`. */
void nj_x86_fill_nops(uint8_t *at, size_t length, uint32_t nop);

#endif
