/* Instructions of one 32-bit word from form rows: AArch64, RISC-V.
 *
 * The problem.  A fixed-width ISA has dozens of layouts, some of which scatter an immediate over four
 * places, scale it, or count it backwards; each is easy, and all together are easy to get wrong.
 *
 * The idea.  A form is a pattern of 32 bits and its fields (nj_field), whatever they mean: register
 * numbers, lanes, shifts, offsets, labels.  Encoding inserts one number a field, decoding takes them out
 * again; the ISA is a table of rows.  So nothing has to be remembered about an emitted instruction but
 * its form: listings and unrolling read the word back.
 *
 * Invariants.  Values are checked against their field before a byte is written, and never masked.  A
 * field that names a label is written when the buffer is finished. */
#ifndef NJ_WORD_ENCODER_H
#define NJ_WORD_ENCODER_H

#include "code_buffer.h"

enum { NJ_WORD_BYTES = 4, NJ_WORD_FIELDS = 6, NJ_WORD_POINTERS = 32, NJ_WORD_VECTORS = 32 };

typedef struct {
    uint32_t pattern; /* with 0 in every field */
    uint8_t fields;
    int8_t label;                   /* which field is a distance to a label, */
    int8_t base;                    /* the register of an address, */
    int8_t displacement;            /* what is added to it; -1: none is */
    uint8_t vectors;                /* bit i: field i is a vector register */
    int8_t lane_of[NJ_WORD_FIELDS]; /* which field's register it is a lane of; -1: none's */
    nj_field field[NJ_WORD_FIELDS];
} nj_word_form;

/* Checks, encodes and appends one instruction: a value for each field, in their order, a label's number
 * in its field.  On failure fault.operand says which field. */
nj_emit_status nj_word_emit(nj_code_buffer *code, const nj_word_form *form, int id, const int64_t *values);

/* The same in place of the instruction of a record, whose own names no label: a gap left for what turns
 * out later, such as a branch to code that saves registers. */
nj_emit_status nj_word_replace(nj_code_buffer *code, size_t record, const nj_word_form *form, int id,
                               const int64_t *values);

/* The fields of a word that the form's pattern matches; of a label, the distance it holds so far. */
void nj_word_decode(const nj_word_form *form, uint32_t word, int64_t *values);

/* What differs between one repetition of a body and the next: displacements from base register r grow by
 * shift[r]; vector register r becomes following[r]; lanes of it grow by lanes[r]. */
typedef struct {
    int64_t shift[NJ_WORD_POINTERS];
    const uint8_t *following;
    int8_t lanes[NJ_WORD_VECTORS];
} nj_word_growth;

/* Emits the instructions from record `first` on again, `times` times, each time grown once more: an unrolled
 * loop, or the rows of a tile, whose body was emitted once.  What names a label, padding and data cannot be
 * repeated (NJ_WRONG_SHAPE), nor a base that moves in a form without displacement.  On failure nothing is
 * emitted, and code->fault tells the limit that was passed, of the form in *refused. */
nj_emit_status nj_word_repeat(nj_code_buffer *code, const nj_word_form *rows, size_t first, int times,
                              const nj_word_growth *growth, int *refused);

/* Zeros up to a whole word, then words of `nop`, for nj_code_align. */
void nj_word_fill(uint8_t *at, size_t length, uint32_t nop);

#endif
