#include "word_encoder.h"

#include <string.h>

/* The word of checked values; *label: the label it names, or -1. */
static nj_emit_status encode(nj_code_buffer *code, const nj_word_form *form, const int64_t *values,
                             uint32_t *word, int *label)
{
    nj_emit_status status;
    *word = form->pattern;
    *label = -1;
    for (int i = 0; i < form->fields; i++) {
        if (i == form->label) {
            *label = (int)values[i];
            status = nj_code_check_label(code, *label == values[i] ? *label : -1);
            if (status != NJ_OK) return status;
            continue;
        }
        status = nj_field_check(code, &form->field[i], values[i]);
        if (status != NJ_OK) {
            code->fault.operand = i;
            return status;
        }
        *word = nj_field_insert(&form->field[i], *word, values[i]);
    }
    return NJ_OK;
}

nj_emit_status nj_word_emit(nj_code_buffer *code, const nj_word_form *form, int id, const int64_t *values)
{
    uint32_t word;
    int label;
    if (code->size % NJ_WORD_BYTES != 0) return NJ_MISALIGNED;
    nj_emit_status status = encode(code, form, values, &word, &label);
    if (status == NJ_OK) status = nj_code_reserve(code, NJ_WORD_BYTES);
    if (status != NJ_OK) return status;
    memcpy(code->bytes + code->size, &word, sizeof word);
    nj_operands operands = {.registers = {-1, -1, -1, -1}, .base = -1, .index = -1, .label = label};
    operands.address = label >= 0 ? NJ_ADDRESS_LABEL : NJ_ADDRESS_NONE;
    if (label >= 0) nj_code_add_fixup(code, 0, 0, label, form->field[form->label]);
    nj_code_commit(code, id, &operands, NJ_WORD_BYTES);
    return NJ_OK;
}

nj_emit_status nj_word_replace(nj_code_buffer *code, size_t record, const nj_word_form *form, int id,
                               const int64_t *values)
{
    uint32_t word;
    int label;
    if (record >= code->record_count || code->records[record].address != NJ_ADDRESS_NONE)
        return NJ_WRONG_SHAPE;
    nj_emit_status status = encode(code, form, values, &word, &label);
    if (status == NJ_OK) status = nj_code_reserve(code, 0); /* for the fixup */
    if (status != NJ_OK) return status;
    nj_record *r = &code->records[record];
    memcpy(code->bytes + r->offset, &word, sizeof word);
    r->form = (uint16_t)id;
    if (label < 0) return NJ_OK;
    r->address = NJ_ADDRESS_LABEL;
    r->displacement = label;
    nj_fixup *fixup = &code->fixups[code->fixup_count++];
    *fixup =
        (nj_fixup){.at = r->offset, .origin = r->offset, .label = label, .field = form->field[form->label]};
    return NJ_OK;
}

void nj_word_decode(const nj_word_form *form, uint32_t word, int64_t *values)
{
    for (int i = 0; i < form->fields; i++) values[i] = nj_field_extract(&form->field[i], word);
}

/* Emits the instruction of a record again, grown once. */
static nj_emit_status emit_grown(nj_code_buffer *code, const nj_word_form *form, nj_record r,
                                 const nj_word_growth *growth)
{
    int64_t values[NJ_WORD_FIELDS] = {0};
    uint32_t word;
    memcpy(&word, code->bytes + r.offset, sizeof word);
    nj_word_decode(form, word, values);
    if (form->base >= 0 && growth->shift[values[form->base]] != 0) {
        if (form->displacement < 0) return NJ_WRONG_SHAPE;
        values[form->displacement] += growth->shift[values[form->base]];
    }
    for (int i = 0; i < form->fields; i++)
        if (form->lane_of[i] >= 0) values[i] += growth->lanes[values[form->lane_of[i]]];
    for (int i = 0; i < form->fields; i++)
        if (form->vectors >> i & 1) values[i] = growth->following[values[i]];
    return nj_word_emit(code, form, r.form, values);
}

nj_emit_status nj_word_repeat(nj_code_buffer *code, const nj_word_form *rows, size_t first, int times,
                              const nj_word_growth *growth, int *refused)
{
    const size_t size = code->size, last = code->record_count;
    /* Each repetition grows from the one before. */
    const size_t end = first + (last - first) * (size_t)(times > 0 ? times : 0);
    nj_emit_status status = NJ_OK;
    *refused = -1;
    for (size_t i = first; i < end && status == NJ_OK; i++) {
        const nj_record r = code->records[i];
        *refused = r.form;
        status = r.address == NJ_ADDRESS_NONE ? emit_grown(code, &rows[r.form], r, growth) : NJ_WRONG_SHAPE;
    }
    if (status != NJ_OK) {
        code->size = size;
        code->record_count = last;
    }
    return status;
}

void nj_word_fill(uint8_t *at, size_t length, uint32_t nop)
{
    const size_t rest = length % NJ_WORD_BYTES; /* behind data */
    memset(at, 0, rest);
    for (size_t i = rest; i < length; i += NJ_WORD_BYTES) memcpy(at + i, &nop, sizeof nop);
}
