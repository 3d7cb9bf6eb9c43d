from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t


cdef extern from "code_buffer.h":
    ctypedef enum nj_emit_status:
        NJ_OK
        NJ_NO_MEMORY
        NJ_TOO_LARGE
        NJ_CLOSED
        NJ_UNKNOWN_LABEL
        NJ_LABEL_BOUND_TWICE
        NJ_LABEL_UNBOUND
        NJ_BRANCH_RANGE
        NJ_ALIGNMENT
        NJ_UNKNOWN_FORM
        NJ_WRONG_SHAPE
        NJ_ENCODING_LENGTH
        NJ_REGISTER_RANGE
        NJ_BASE_RANGE
        NJ_INDEX_RANGE
        NJ_SCALE_RANGE
        NJ_DISPLACEMENT_RANGE
        NJ_IMMEDIATE_RANGE
        NJ_FIELD_RANGE
        NJ_FIELD_UNIT
        NJ_UNKNOWN_RECORD
        NJ_MISALIGNED

    enum: NJ_OPERANDS
    enum: NJ_PIECES

    ctypedef enum nj_address:
        NJ_ADDRESS_NONE
        NJ_ADDRESS_BASE
        NJ_ADDRESS_INDEXED
        NJ_ADDRESS_LABEL
        NJ_ADDRESS_BRANCH
        NJ_PADDING
        NJ_DATA

    ctypedef struct nj_operands:
        int registers[4]
        int address
        int base
        int index
        int scale
        int64_t displacement
        int label
        bint has_immediate
        int64_t immediate

    ctypedef struct nj_record:
        uint32_t offset
        uint16_t form
        uint8_t address
        uint8_t scale
        int8_t registers[4]
        int8_t base
        int8_t index
        uint8_t has_immediate
        int32_t displacement
        int64_t immediate

    ctypedef struct nj_piece:
        uint8_t at
        uint8_t from_bit "from"
        uint8_t bits

    ctypedef struct nj_field:
        int64_t lowest
        int64_t highest
        uint8_t shift
        uint8_t from_end
        uint8_t pieces
        nj_piece piece[4]

    ctypedef struct nj_fault:
        int operand
        int64_t value
        int64_t lowest
        int64_t highest

    ctypedef struct nj_code_buffer:
        uint8_t *bytes
        size_t size
        nj_record *records
        size_t record_count
        int64_t *labels
        size_t label_count
        nj_fault fault

    ctypedef void (*nj_fill)(uint8_t *, size_t, uint32_t) noexcept nogil

    int nj_code_allocations_left
    void nj_code_init(nj_code_buffer *code)
    void nj_code_free(nj_code_buffer *code)
    nj_emit_status nj_code_new_label(nj_code_buffer *code, int *label)
    nj_emit_status nj_code_bind(nj_code_buffer *code, int label)
    nj_emit_status nj_code_check_label(nj_code_buffer *code, int label)
    nj_emit_status nj_code_align(nj_code_buffer *code, int64_t alignment, nj_fill fill, uint32_t nop)
    nj_emit_status nj_code_raw(nj_code_buffer *code, const void *data, size_t length)
    nj_emit_status nj_code_copy(nj_code_buffer *code, size_t first, size_t last, nj_fill fill, uint32_t nop)
    nj_emit_status nj_code_finish(nj_code_buffer *code)


cdef extern from "x86_encoder.h":
    ctypedef struct nj_x86_form:
        uint8_t pattern[16]
        uint8_t length
        uint8_t shape
        uint8_t registers
        uint8_t bits[4]
        uint8_t vectors
        uint8_t lowest[4]
        uint8_t flip[4][5]
        uint8_t base_flip
        uint8_t index_flip
        uint8_t disp8_shift
        uint8_t immediate_bytes
        uint8_t immediate_signed

    ctypedef enum nj_x86_shape:
        NJ_X86_REGISTERS
        NJ_X86_MEMORY
        NJ_X86_BRANCH

    ctypedef struct nj_x86_growth:
        int64_t shift[16]
        const uint8_t *following
        int form, immediate

    nj_emit_status nj_x86_check(nj_code_buffer *code, const nj_x86_form *form, const nj_operands *operands)
    nj_emit_status nj_x86_emit(nj_code_buffer *code, const nj_x86_form *form, int id,
                               const nj_operands *operands)
    nj_emit_status nj_x86_append(nj_code_buffer *code, const nj_x86_form *form, int id,
                                 const nj_operands *operands, const uint8_t *data, size_t length)
    nj_emit_status nj_x86_repeat(nj_code_buffer *code, const nj_x86_form *rows, size_t first, int times,
                                 const nj_x86_growth *growth)
    void nj_x86_fill_nops(uint8_t *at, size_t length, uint32_t nop) noexcept nogil


cdef extern from "word_encoder.h":
    enum: NJ_WORD_FIELDS
    enum: NJ_WORD_POINTERS
    enum: NJ_WORD_VECTORS

    ctypedef struct nj_word_form:
        uint32_t pattern
        uint8_t fields
        int8_t label
        int8_t base
        int8_t displacement
        uint8_t vectors
        int8_t lane_of[6]
        nj_field field[6]

    ctypedef struct nj_word_growth:
        int64_t shift[32]
        const uint8_t *following
        int8_t lanes[32]

    nj_emit_status nj_word_emit(nj_code_buffer *code, const nj_word_form *form, int id, const int64_t *values)
    nj_emit_status nj_word_replace(nj_code_buffer *code, size_t record, const nj_word_form *form, int id,
                                   const int64_t *values)
    void nj_word_decode(const nj_word_form *form, uint32_t word, int64_t *values)
    nj_emit_status nj_word_repeat(nj_code_buffer *code, const nj_word_form *rows, size_t first, int times,
                                  const nj_word_growth *growth, int *refused)
    void nj_word_fill(uint8_t *at, size_t length, uint32_t nop) noexcept nogil


cdef class CodeBuffer:
    cdef nj_code_buffer buffer
    cdef nj_fill fill
    cdef uint32_t nop
    cdef str describe(self, int form)
    cdef int check_mark(self, size_t first) except -1
    cdef int refuse(self, nj_emit_status status, int form, nj_operands *operands) except -1


cdef class FormRows:
    cdef nj_x86_form *rows
    cdef readonly int count
    cdef list rows_by_id


cdef class X86Buffer(CodeBuffer):
    cdef readonly FormRows forms
    cdef nj_x86_form *rows
    cdef int emit(self, int form, nj_operands *operands) except -1
    cdef int foreign(self, int form, object registers, int address, int base, int index, int scale,
                     long long disp, int label, object value, bytes encoding) except -1


cdef class WordRows:
    cdef nj_word_form *rows
    cdef readonly int count
    cdef readonly dict kinds
    cdef list rows_by_id


cdef class WordBuffer(CodeBuffer):
    cdef readonly WordRows forms
    cdef nj_word_form *rows
    cdef int check_count(self, int form, int64_t *values) except -1
