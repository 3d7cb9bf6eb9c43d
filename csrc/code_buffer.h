/* A code buffer: growing bytes, labels, fixups and a record of every instruction; of no ISA.
 *
 * The problem.  An emitter appends instructions before it knows where its branches go, must never
 * leave half an instruction behind when an operand does not fit or memory runs out, and should
 * afterwards be able to say what it emitted.
 *
 * The idea.  An encoder reserves room, writes at the end, then commits: the bytes, one fixup when
 * the instruction names a label, and one record.  Only reserving can fail, so a commit is whole.  A
 * fixup knows its bit field and not its instruction, hence serves x86 (32 bits, unscaled) as it
 * serves the fixed 32-bit words of other ISAs (26 bits, scaled by 4; or four pieces in any order).
 *
 * Invariants.  size <= capacity <= NJ_CODE_LIMIT; records are sorted by offset; a call that returns
 * anything but NJ_OK has changed neither bytes, labels, fixups nor records; after
 * nj_code_finish() succeeded the buffer takes nothing more. */
#ifndef NJ_CODE_BUFFER_H
#define NJ_CODE_BUFFER_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    NJ_OK = 0,
    NJ_NO_MEMORY,
    NJ_TOO_LARGE,     /* beyond NJ_CODE_LIMIT */
    NJ_CLOSED,        /* emission after nj_code_finish */
    NJ_UNKNOWN_LABEL, /* not one of this buffer's labels */
    NJ_LABEL_BOUND_TWICE,
    NJ_LABEL_UNBOUND, /* at finish: referred to, never bound */
    NJ_BRANCH_RANGE,  /* at finish: the distance does not fit its field */
    NJ_ALIGNMENT,     /* not a power of two, or beyond 4096 */
    NJ_UNKNOWN_FORM,
    NJ_WRONG_SHAPE,     /* the form takes other operands */
    NJ_ENCODING_LENGTH, /* nj_x86_append: no x86 instruction is that long, or short */
    NJ_REGISTER_RANGE,  /* fault.operand says which register operand */
    NJ_BASE_RANGE,
    NJ_INDEX_RANGE, /* includes rsp, which no x86 index can be */
    NJ_SCALE_RANGE,
    NJ_DISPLACEMENT_RANGE,
    NJ_IMMEDIATE_RANGE,
    NJ_FIELD_RANGE,    /* a word's field, fault.operand: the value is too small or too large */
    NJ_FIELD_UNIT,     /* the same: no multiple of fault.lowest */
    NJ_UNKNOWN_RECORD, /* nj_code_copy: no such records */
    NJ_MISALIGNED,     /* an instruction word behind data of odd length */
} nj_emit_status;

enum {
    NJ_CODE_LIMIT = 1 << 30,
    NJ_OPERANDS = 4,
    NJ_PIECES = 4,
    NJ_ROOM = 32, /* to reserve for an instruction: encoders write whole words past its end */
};

/* How an instruction addresses memory or code; the last two are records that are no instruction. */
typedef enum {
    NJ_ADDRESS_NONE = 0,
    NJ_ADDRESS_BASE,    /* [base + displacement] */
    NJ_ADDRESS_INDEXED, /* [base + index * scale + displacement] */
    NJ_ADDRESS_LABEL,   /* [rip + label] */
    NJ_ADDRESS_BRANCH,  /* a branch to a label */
    NJ_PADDING,
    NJ_DATA,
} nj_address;

/* What an instruction was asked to be.  Absent registers are -1. */
typedef struct {
    int registers[NJ_OPERANDS]; /* in textual order, masks included */
    int address;                /* nj_address */
    int base, index, scale;
    int64_t displacement;
    int label;
    int has_immediate;
    int64_t immediate;
} nj_operands;

/* The same, as kept for listings: 32 bytes. */
typedef struct {
    uint32_t offset;
    uint16_t form;
    uint8_t address;
    uint8_t scale;
    int8_t registers[NJ_OPERANDS];
    int8_t base, index;
    uint8_t has_immediate;
    uint8_t unused;
    int32_t displacement; /* or the label */
    int64_t immediate;    /* or the length of padding and data */
} nj_record;

/* `bits` bits of a number, from its bit `from` on, at bit `at` of a word. */
typedef struct {
    uint8_t at, from, bits;
} nj_piece;

/* A number in a little-endian 32-bit word: from `lowest` to `highest`, a multiple of 1 << shift, in
 * pieces that may lie anywhere.  With `from_end` the number that is written is from_end - value, as
 * AArch64 counts right shifts.  x86 rel32 is all 32 bits in one piece. */
typedef struct {
    int64_t lowest, highest;
    uint8_t shift, from_end, pieces;
    nj_piece piece[NJ_PIECES];
} nj_field;

typedef struct {
    uint32_t at;     /* offset of the word that holds the field */
    uint32_t origin; /* offset that the distance counts from */
    int32_t label;
    nj_field field;
} nj_fixup;

/* What did not fit, and what would have. */
typedef struct {
    int operand;
    int64_t value, lowest, highest;
} nj_fault;

typedef struct {
    uint8_t *bytes;
    size_t size, capacity;
    nj_record *records;
    size_t record_count, record_capacity;
    int64_t *labels; /* offset, or -1 while unbound */
    size_t label_count, label_capacity;
    nj_fixup *fixups;
    size_t fixup_count, fixup_capacity;
    size_t alignment; /* the greatest that was asked for so far; 0: none was */
    int closed;
    nj_fault fault; /* of the call that failed last */
} nj_code_buffer;

/* Allocations that still succeed before one fails; negative: all do.  For tests. */
extern int nj_code_allocations_left;

void nj_code_init(nj_code_buffer *code);
void nj_code_free(nj_code_buffer *code);

/* Room for `bytes` more bytes, one record and one fixup. */
nj_emit_status nj_code_reserve(nj_code_buffer *code, size_t bytes);

/* Appends the `length` bytes already written at bytes + size, and their record.  Cannot fail after
 * nj_code_reserve. */
void nj_code_commit(nj_code_buffer *code, int form, const nj_operands *operands, size_t length);

/* A fixup for the instruction about to be committed; `at` and `origin` count from its start. */
void nj_code_add_fixup(nj_code_buffer *code, size_t at, size_t origin, int label, nj_field field);

nj_emit_status nj_code_new_label(nj_code_buffer *code, int *label);
nj_emit_status nj_code_bind(nj_code_buffer *code, int label);
nj_emit_status nj_code_check_label(nj_code_buffer *code, int label);

/* Writes an ISA's padding. nop: an instruction word, where there are such. */
typedef void (*nj_fill)(uint8_t *at, size_t length, uint32_t nop);

/* Pads to a multiple of `alignment` (a power of two up to 4096) with what `fill` writes. */
nj_emit_status nj_code_align(nj_code_buffer *code, int64_t alignment, nj_fill fill, uint32_t nop);
nj_emit_status nj_code_raw(nj_code_buffer *code, const void *bytes, size_t length);

/* Appends the instructions of the records from `first` to before `last` once more, with their padding, data
 * and branches among themselves: labels bound among them get a likeness, all others stay what they are.
 * Before the copy comes padding, so that it is aligned as the original.  On failure nothing is appended. */
nj_emit_status nj_code_copy(nj_code_buffer *code, size_t first, size_t last, nj_fill fill, uint32_t nop);

/* NJ_OK, NJ_FIELD_RANGE or NJ_FIELD_UNIT with the limits in code->fault. */
nj_emit_status nj_field_check(nj_code_buffer *code, const nj_field *field, int64_t value);

/* The word with `value`, which was checked, in place of what the field held. */
uint32_t nj_field_insert(const nj_field *field, uint32_t word, int64_t value);

/* What the field of a word holds. */
int64_t nj_field_extract(const nj_field *field, uint32_t word);

/* Resolves every fixup and closes the buffer.  On failure fault.operand is the label. */
nj_emit_status nj_code_finish(nj_code_buffer *code);

#endif
