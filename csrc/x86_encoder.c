#include "x86_encoder.h"

#include <string.h>

static const nj_field REL32 = {.lowest = INT32_MIN, .highest = INT32_MAX, .pieces = 1, .piece = {{0, 0, 32}}};

static nj_emit_status refuse(nj_code_buffer *code, nj_emit_status status, int operand, int64_t value,
                             int64_t lowest, int64_t highest)
{
    code->fault.operand = operand;
    code->fault.value = value;
    code->fault.lowest = lowest;
    code->fault.highest = highest;
    return status;
}

static nj_emit_status check_address(nj_code_buffer *code, const nj_operands *o)
{
    if (o->address == NJ_ADDRESS_LABEL || o->address == NJ_ADDRESS_BRANCH)
        return nj_code_check_label(code, o->label);
    if (o->base < 0 || o->base > 15) return refuse(code, NJ_BASE_RANGE, 0, o->base, 0, 15);
    if (o->displacement < INT32_MIN || o->displacement > INT32_MAX)
        return refuse(code, NJ_DISPLACEMENT_RANGE, 0, o->displacement, INT32_MIN, INT32_MAX);
    if (o->address == NJ_ADDRESS_INDEXED) {
        if (o->index < 0 || o->index > 15 || o->index == 4)
            return refuse(code, NJ_INDEX_RANGE, 0, o->index, 0, 15);
        if (o->scale != 1 && o->scale != 2 && o->scale != 4 && o->scale != 8)
            return refuse(code, NJ_SCALE_RANGE, 0, o->scale, 1, 8);
    }
    return NJ_OK;
}

static nj_emit_status check_immediate(nj_code_buffer *code, const nj_x86_form *form, int64_t value)
{
    int bits = 8 * form->immediate_bytes;
    if (bits == 64) return NJ_OK;
    int64_t lowest = form->immediate_signed ? -((int64_t)1 << (bits - 1)) : 0;
    int64_t highest = ((int64_t)1 << (bits - form->immediate_signed)) - 1;
    if (value < lowest || value > highest) return refuse(code, NJ_IMMEDIATE_RANGE, 0, value, lowest, highest);
    return NJ_OK;
}

nj_emit_status nj_x86_check(nj_code_buffer *code, const nj_x86_form *form, const nj_operands *o)
{
    static const uint8_t SHAPE_OF_ADDRESS[] = {
        [NJ_ADDRESS_NONE] = NJ_X86_REGISTERS, [NJ_ADDRESS_BASE] = NJ_X86_MEMORY,
        [NJ_ADDRESS_INDEXED] = NJ_X86_MEMORY, [NJ_ADDRESS_LABEL] = NJ_X86_MEMORY,
        [NJ_ADDRESS_BRANCH] = NJ_X86_BRANCH,
    };
    if (SHAPE_OF_ADDRESS[o->address] != form->shape || o->has_immediate != (form->immediate_bytes != 0))
        return NJ_WRONG_SHAPE;
    for (int i = 0; i < form->registers; i++) {
        int highest = (1 << form->bits[i]) - 1;
        if (o->registers[i] < form->lowest[i] || o->registers[i] > highest)
            return refuse(code, NJ_REGISTER_RANGE, i, o->registers[i], form->lowest[i], highest);
    }
    for (int i = form->registers; i < NJ_OPERANDS; i++)
        if (o->registers[i] != -1) return NJ_WRONG_SHAPE;
    nj_emit_status status = NJ_OK;
    if (form->shape != NJ_X86_REGISTERS) status = check_address(code, o);
    if (status == NJ_OK && o->has_immediate) status = check_immediate(code, form, o->immediate);
    return status;
}

/* Completes the ModRM byte at `modrm` (so far mod 00, rm 000) and writes SIB and displacement after
 * it; returns the end. */
static uint8_t *encode_address(const nj_x86_form *form, const nj_operands *o, uint8_t *modrm)
{
    uint8_t *end = modrm + 1;
    int base = o->base & 7, indexed = o->address == NJ_ADDRESS_INDEXED;
    if (o->address == NJ_ADDRESS_LABEL) {
        *modrm |= 5; /* mod 00 rm 101: rip + disp32 */
        memset(end, 0, 4);
        return end + 4;
    }
    if (indexed || base == 4) { /* rm 100 means a SIB byte, hence rsp and r12 need one */
        int scale = o->scale == 8 ? 3 : o->scale == 4 ? 2 : o->scale == 2 ? 1 : 0;
        *modrm |= 4;
        *end++ = (uint8_t)(indexed ? scale << 6 | (o->index & 7) << 3 | base : 4 << 3 | base);
    } else {
        *modrm |= (uint8_t)base;
    }
    int32_t displacement = (int32_t)o->displacement, unit = (int32_t)1 << form->disp8_shift;
    int32_t units = displacement / unit;
    if (displacement == 0 && base != 5) /* mod 00 with rbp or r13 would mean no base */
        return end;
    if (units * unit == displacement && units >= -128 && units <= 127) {
        *modrm |= 1 << 6;
        *end = (uint8_t)units;
        return end + 1;
    }
    *modrm |= 2 << 6;
    memcpy(end, &displacement, 4);
    return end + 4;
}

/* Writes the instruction to `out`, up to NJ_ROOM bytes of scratch included, and returns its length. */
static size_t encode(const nj_x86_form *form, const nj_operands *o, uint8_t *out)
{
    uint64_t head;
    uint8_t *end = out + form->length;
    memcpy(&head, form->pattern, sizeof head);
    for (int i = 0; i < form->registers; i++)
        for (int bit = 0; bit < NJ_X86_REGISTER_BITS; bit++)
            head ^= (uint64_t)(o->registers[i] >> bit & 1) << form->flip[i][bit];
    if (o->address == NJ_ADDRESS_BASE || o->address == NJ_ADDRESS_INDEXED)
        head ^= (uint64_t)(o->base >> 3 & 1) << form->base_flip;
    if (o->address == NJ_ADDRESS_INDEXED) head ^= (uint64_t)(o->index >> 3 & 1) << form->index_flip;
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, form->pattern + sizeof head, NJ_X86_PATTERN - sizeof head);
    if (form->shape == NJ_X86_MEMORY) {
        end = encode_address(form, o, end - 1);
    } else if (form->shape == NJ_X86_BRANCH) {
        memset(end, 0, 4);
        end += 4;
    }
    memcpy(end, &o->immediate, sizeof o->immediate);
    return (size_t)(end - out) + form->immediate_bytes;
}

static void commit(nj_code_buffer *code, const nj_x86_form *form, int id, const nj_operands *o, size_t length)
{
    if (o->address == NJ_ADDRESS_LABEL || o->address == NJ_ADDRESS_BRANCH)
        nj_code_add_fixup(code, length - form->immediate_bytes - 4, length, o->label, REL32);
    nj_code_commit(code, id, o, length);
}

nj_emit_status nj_x86_emit(nj_code_buffer *code, const nj_x86_form *form, int id, const nj_operands *operands)
{
    nj_emit_status status = nj_x86_check(code, form, operands);
    if (status == NJ_OK) status = nj_code_reserve(code, NJ_ROOM);
    if (status == NJ_OK) commit(code, form, id, operands, encode(form, operands, code->bytes + code->size));
    return status;
}

nj_emit_status nj_x86_append(nj_code_buffer *code, const nj_x86_form *form, int id, const nj_operands *o,
                             const uint8_t *bytes, size_t length)
{
    nj_emit_status status = nj_x86_check(code, form, o);
    size_t shortest = form->length + (o->address >= NJ_ADDRESS_LABEL ? 4u : 0u) + form->immediate_bytes;
    if (status == NJ_OK && (length < shortest || length > NJ_X86_LONGEST))
        status = refuse(code, NJ_ENCODING_LENGTH, 0, (int64_t)length, (int64_t)shortest, NJ_X86_LONGEST);
    if (status == NJ_OK) status = nj_code_reserve(code, NJ_ROOM);
    if (status == NJ_OK) {
        memcpy(code->bytes + code->size, bytes, length);
        commit(code, form, id, o, length);
    }
    return status;
}

/* Emits the instruction of a record again, grown once. */
static nj_emit_status emit_grown(nj_code_buffer *code, const nj_x86_form *rows, nj_record r,
                                 const nj_x86_growth *growth)
{
    const int names_label = r.address == NJ_ADDRESS_LABEL;
    if (r.address != NJ_ADDRESS_NONE && r.address != NJ_ADDRESS_BASE && r.address != NJ_ADDRESS_INDEXED &&
        !names_label)
        return NJ_WRONG_SHAPE;
    nj_operands o = {
        .registers = {r.registers[0], r.registers[1], r.registers[2], r.registers[3]},
        .address = r.address,
        .base = r.base,
        .index = r.index,
        .scale = r.scale,
        .displacement = names_label ? 0 : r.displacement,
        .label = names_label ? r.displacement : -1,
        .has_immediate = r.has_immediate,
        .immediate = r.immediate + (r.form == growth->form ? growth->immediate : 0),
    };
    if (r.address != NJ_ADDRESS_NONE && !names_label) o.displacement += growth->shift[r.base];
    for (int k = 0; k < rows[r.form].registers; k++)
        if (rows[r.form].vectors >> k & 1) o.registers[k] = growth->following[o.registers[k]];
    return nj_x86_emit(code, &rows[r.form], r.form, &o);
}

nj_emit_status nj_x86_repeat(nj_code_buffer *code, const nj_x86_form *rows, size_t first, int times,
                             const nj_x86_growth *growth)
{
    const size_t size = code->size, last = code->record_count, fixups = code->fixup_count;
    /* Each repetition grows from the one before. */
    const size_t end = first + (last - first) * (size_t)(times > 0 ? times : 0);
    nj_emit_status status = NJ_OK;
    for (size_t i = first; i < end && status == NJ_OK; i++)
        status = emit_grown(code, rows, code->records[i], growth);
    if (status != NJ_OK) {
        code->size = size;
        code->record_count = last;
        code->fixup_count = fixups;
    }
    return status;
}

/* The recommended multi-byte NOPs: Intel SDM vol. 2B, NOP, table 4-12. */
static const uint8_t NOPS[9][9] = {
    {0x90},
    {0x66, 0x90},
    {0x0f, 0x1f, 0x00},
    {0x0f, 0x1f, 0x40, 0x00},
    {0x0f, 0x1f, 0x44, 0x00, 0x00},
    {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
    {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
    {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
};

void nj_x86_fill_nops(uint8_t *at, size_t length, uint32_t nop)
{
    while (length > 0) {
        size_t step = length < 9 ? length : 9;
        memcpy(at, NOPS[step - 1], step);
        at += step;
        length -= step;
    }
}
