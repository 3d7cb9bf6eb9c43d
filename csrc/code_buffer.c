#include "code_buffer.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "instruction words are stored little-endian");

int nj_code_allocations_left = -1;

/* `old`, grown by doubling until it holds `needed` elements, or NULL with nothing changed. */
static void *grow(void *old, size_t *capacity, size_t needed, size_t first, size_t element)
{
    size_t wanted = *capacity ? *capacity : first;
    while (wanted < needed) wanted *= 2;
    if (nj_code_allocations_left == 0) return NULL;
    if (nj_code_allocations_left > 0) nj_code_allocations_left--;
    void *grown = realloc(old, wanted * element);
    if (grown) *capacity = wanted;
    return grown;
}

void nj_code_init(nj_code_buffer *code) { memset(code, 0, sizeof *code); }

void nj_code_free(nj_code_buffer *code)
{
    free(code->bytes);
    free(code->records);
    free(code->labels);
    free(code->fixups);
    nj_code_init(code);
}

static nj_emit_status reserve(nj_code_buffer *code, size_t bytes, size_t records, size_t fixups)
{
    if (code->closed) return NJ_CLOSED;
    if (bytes > NJ_CODE_LIMIT - code->size) return NJ_TOO_LARGE;
    void *grown;
    if (code->capacity < code->size + bytes) {
        grown = grow(code->bytes, &code->capacity, code->size + bytes, 4096, 1);
        if (!grown) return NJ_NO_MEMORY;
        code->bytes = grown;
    }
    if (code->record_capacity < code->record_count + records) {
        grown =
            grow(code->records, &code->record_capacity, code->record_count + records, 256, sizeof(nj_record));
        if (!grown) return NJ_NO_MEMORY;
        code->records = grown;
    }
    if (code->fixup_capacity < code->fixup_count + fixups) {
        grown = grow(code->fixups, &code->fixup_capacity, code->fixup_count + fixups, 16, sizeof(nj_fixup));
        if (!grown) return NJ_NO_MEMORY;
        code->fixups = grown;
    }
    return NJ_OK;
}

nj_emit_status nj_code_reserve(nj_code_buffer *code, size_t bytes) { return reserve(code, bytes, 1, 1); }

void nj_code_commit(nj_code_buffer *code, int form, const nj_operands *operands, size_t length)
{
    nj_record *record = &code->records[code->record_count++];
    int names_label = operands->address == NJ_ADDRESS_LABEL || operands->address == NJ_ADDRESS_BRANCH;
    record->offset = (uint32_t)code->size;
    record->form = (uint16_t)form;
    record->address = (uint8_t)operands->address;
    record->scale = (uint8_t)operands->scale;
    for (int i = 0; i < NJ_OPERANDS; i++) record->registers[i] = (int8_t)operands->registers[i];
    record->base = (int8_t)operands->base;
    record->index = (int8_t)operands->index;
    record->has_immediate = (uint8_t)operands->has_immediate;
    record->unused = 0;
    record->displacement = names_label ? operands->label : (int32_t)operands->displacement;
    record->immediate = operands->immediate;
    code->size += length;
}

void nj_code_add_fixup(nj_code_buffer *code, size_t at, size_t origin, int label, nj_field field)
{
    nj_fixup *fixup = &code->fixups[code->fixup_count++];
    fixup->at = (uint32_t)(code->size + at);
    fixup->origin = (uint32_t)(code->size + origin);
    fixup->label = label;
    fixup->field = field;
}

nj_emit_status nj_code_check_label(nj_code_buffer *code, int label)
{
    if (label >= 0 && (size_t)label < code->label_count) return NJ_OK;
    code->fault.value = label;
    code->fault.lowest = 0;
    code->fault.highest = (int64_t)code->label_count - 1;
    return NJ_UNKNOWN_LABEL;
}

nj_emit_status nj_code_new_label(nj_code_buffer *code, int *label)
{
    if (code->closed) return NJ_CLOSED;
    if (code->label_count == code->label_capacity) {
        size_t needed = code->label_count + 1;
        void *grown = grow(code->labels, &code->label_capacity, needed, 16, sizeof *code->labels);
        if (!grown) return NJ_NO_MEMORY;
        code->labels = grown;
    }
    code->labels[code->label_count] = -1;
    *label = (int)code->label_count++;
    return NJ_OK;
}

nj_emit_status nj_code_bind(nj_code_buffer *code, int label)
{
    if (code->closed) return NJ_CLOSED;
    nj_emit_status status = nj_code_check_label(code, label);
    if (status != NJ_OK) return status;
    if (code->labels[label] >= 0) {
        code->fault.value = label;
        return NJ_LABEL_BOUND_TWICE;
    }
    code->labels[label] = (int64_t)code->size;
    return NJ_OK;
}

static void commit_block(nj_code_buffer *code, int kind, size_t length)
{
    nj_operands block = {.registers = {-1, -1, -1, -1}, .address = kind, .base = -1, .index = -1};
    block.immediate = (int64_t)length;
    nj_code_commit(code, 0, &block, length);
}

nj_emit_status nj_code_align(nj_code_buffer *code, int64_t alignment, nj_fill fill, uint32_t nop)
{
    if (alignment < 1 || alignment > 4096 || (alignment & (alignment - 1)) != 0) {
        code->fault.value = alignment;
        return NJ_ALIGNMENT;
    }
    size_t length = (size_t)(-(int64_t)code->size & (alignment - 1));
    nj_emit_status status = nj_code_reserve(code, length);
    if (status == NJ_OK && code->alignment < (size_t)alignment) code->alignment = (size_t)alignment;
    if (status != NJ_OK || length == 0) return status;
    fill(code->bytes + code->size, length, nop);
    commit_block(code, NJ_PADDING, length);
    return NJ_OK;
}

nj_emit_status nj_code_raw(nj_code_buffer *code, const void *bytes, size_t length)
{
    nj_emit_status status = nj_code_reserve(code, length);
    if (status != NJ_OK || length == 0) return status;
    memcpy(code->bytes + code->size, bytes, length);
    commit_block(code, NJ_DATA, length);
    return NJ_OK;
}

/* Appends the likeness of a fixup that lies among what is copied: its label is a new one if it is bound
 * there too.  There is room. */
static nj_emit_status copy_fixup(nj_code_buffer *code, nj_fixup fixup, size_t begin, size_t end,
                                 size_t distance)
{
    const int64_t bound = code->labels[fixup.label];
    fixup.at += (uint32_t)distance;
    fixup.origin += (uint32_t)distance;
    if (bound >= (int64_t)begin && bound <= (int64_t)end) {
        nj_emit_status status = nj_code_new_label(code, &fixup.label);
        if (status != NJ_OK) return status;
        code->labels[fixup.label] = bound + (int64_t)distance;
    }
    code->fixups[code->fixup_count++] = fixup;
    return NJ_OK;
}

nj_emit_status nj_code_copy(nj_code_buffer *code, size_t first, size_t last, nj_fill fill, uint32_t nop)
{
    if (code->closed) return NJ_CLOSED;
    code->fault.value = (int64_t)(first > last ? first : last);
    code->fault.highest = (int64_t)(first > last ? last : code->record_count);
    if (first > last || last > code->record_count) return NJ_UNKNOWN_RECORD;
    if (first == last) return NJ_OK;
    const size_t labels = code->label_count, fixups = code->fixup_count;
    const size_t begin = code->records[first].offset;
    const size_t end = last < code->record_count ? code->records[last].offset : code->size;
    const size_t padding = code->alignment ? (begin - code->size) & (code->alignment - 1) : 0;
    const size_t distance = code->size + padding - begin;
    nj_emit_status status = reserve(code, padding + (end - begin), 1 + (last - first), fixups);
    for (size_t i = 0; i < fixups && status == NJ_OK; i++)
        if (code->fixups[i].at >= begin && code->fixups[i].at < end)
            status = copy_fixup(code, code->fixups[i], begin, end, distance);
    if (status != NJ_OK) {
        code->label_count = labels;
        code->fixup_count = fixups;
        return status;
    }
    if (padding > 0) {
        fill(code->bytes + code->size, padding, nop);
        commit_block(code, NJ_PADDING, padding);
    }
    memcpy(code->bytes + code->size, code->bytes + begin, end - begin);
    for (size_t i = first; i < last; i++) {
        nj_record *record = &code->records[code->record_count++];
        *record = code->records[i];
        record->offset += (uint32_t)distance;
    }
    code->size += end - begin;
    return NJ_OK;
}

nj_emit_status nj_field_check(nj_code_buffer *code, const nj_field *field, int64_t value)
{
    if (value >= field->lowest && value <= field->highest &&
        (value & (((int64_t)1 << field->shift) - 1)) == 0)
        return NJ_OK;
    code->fault.value = value;
    code->fault.lowest = field->lowest;
    code->fault.highest = field->highest;
    if (value < field->lowest || value > field->highest) return NJ_FIELD_RANGE;
    code->fault.lowest = (int64_t)1 << field->shift;
    return NJ_FIELD_UNIT;
}

uint32_t nj_field_insert(const nj_field *field, uint32_t word, int64_t value)
{
    uint64_t number = (uint64_t)(field->from_end ? field->from_end - value : value);
    for (int i = 0; i < field->pieces; i++) {
        nj_piece piece = field->piece[i];
        uint32_t mask = (uint32_t)(((uint64_t)1 << piece.bits) - 1);
        word = (word & ~(mask << piece.at)) | ((uint32_t)(number >> piece.from) & mask) << piece.at;
    }
    return word;
}

int64_t nj_field_extract(const nj_field *field, uint32_t word)
{
    uint64_t number = 0;
    int top = 0;
    for (int i = 0; i < field->pieces; i++) {
        nj_piece piece = field->piece[i];
        uint64_t mask = ((uint64_t)1 << piece.bits) - 1;
        number |= (word >> piece.at & mask) << piece.from;
        if (piece.from + piece.bits > top) top = piece.from + piece.bits;
    }
    if (field->lowest < 0 && number >> (top - 1) & 1) number |= ~(((uint64_t)1 << top) - 1);
    return field->from_end ? field->from_end - (int64_t)number : (int64_t)number;
}

/* Its label is bound, and at a distance that fits its field. */
static nj_emit_status check_fixup(nj_code_buffer *code, const nj_fixup *fixup)
{
    int64_t target = code->labels[fixup->label];
    code->fault.operand = fixup->label;
    if (target < 0) return NJ_LABEL_UNBOUND;
    nj_emit_status status = nj_field_check(code, &fixup->field, target - (int64_t)fixup->origin);
    return status == NJ_OK ? NJ_OK : NJ_BRANCH_RANGE;
}

static void patch(nj_code_buffer *code, const nj_fixup *fixup)
{
    uint32_t word;
    memcpy(&word, code->bytes + fixup->at, sizeof word);
    word = nj_field_insert(&fixup->field, word, code->labels[fixup->label] - (int64_t)fixup->origin);
    memcpy(code->bytes + fixup->at, &word, sizeof word);
}

nj_emit_status nj_code_finish(nj_code_buffer *code)
{
    for (size_t i = 0; i < code->fixup_count; i++) {
        nj_emit_status status = check_fixup(code, &code->fixups[i]);
        if (status != NJ_OK) return status;
    }
    for (size_t i = 0; i < code->fixup_count; i++) patch(code, &code->fixups[i]);
    code->closed = 1;
    return NJ_OK;
}
