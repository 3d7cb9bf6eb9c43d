/* The code buffer alone, without Python and without x86: fields of 32-bit instruction words, and the
 * limits that no x86-64 instruction reaches.  Exits 0, or prints the line that failed. */
#include "code_buffer.h"

#include <stdio.h>
#include <string.h>

static int failures;
#define CHECK(condition) ((condition) ? (void)0 : (void)(failures++, printf("line %d: %s\n", __LINE__, #condition)))

/* AArch64: B has 26 bits of words from bit 0, B.cond 19 from bit 5. */
static const nj_field B = {-(1 << 27), (1 << 27) - 4, 2, 0, 1, {{0, 2, 26}}};
static const nj_field B_COND = {-(1 << 20), (1 << 20) - 4, 2, 0, 1, {{5, 2, 19}}};
/* RISC-V: the 13 bits of a branch lie in four pieces, and the lowest is not there. */
static const nj_field BRANCH = {-4096, 4094, 1, 0, 4, {{31, 12, 1}, {25, 5, 6}, {8, 1, 4}, {7, 11, 1}}};

static nj_emit_status word(nj_code_buffer *code, uint32_t bits, int label, nj_field field)
{
    nj_operands operands = {.registers = {-1, -1, -1, -1}, .address = NJ_ADDRESS_BRANCH, .label = label};
    nj_emit_status status = nj_code_reserve(code, 4);
    if (status != NJ_OK)
        return status;
    memcpy(code->bytes + code->size, &bits, 4);
    nj_code_add_fixup(code, 0, 0, label, field);
    nj_code_commit(code, 0, &operands, 4);
    return NJ_OK;
}

static uint32_t word_at(const nj_code_buffer *code, size_t offset)
{
    uint32_t bits;
    memcpy(&bits, code->bytes + offset, 4);
    return bits;
}

static void fields_are_patched_and_nothing_else(void)
{
    nj_code_buffer code;
    int back, ahead;
    nj_code_init(&code);
    CHECK(nj_code_new_label(&code, &back) == NJ_OK && nj_code_new_label(&code, &ahead) == NJ_OK);
    CHECK(nj_code_bind(&code, back) == NJ_OK);
    CHECK(word(&code, 0x14000000, ahead, B) == NJ_OK);
    CHECK(word(&code, 0x54000001, back, B_COND) == NJ_OK);
    CHECK(nj_code_bind(&code, ahead) == NJ_OK);
    CHECK(nj_code_finish(&code) == NJ_OK);
    CHECK(word_at(&code, 0) == 0x14000002); /* b #8 */
    CHECK(word_at(&code, 4) == 0x54ffffe1); /* b.ne #-4 */
    CHECK(nj_code_finish(&code) == NJ_OK && word_at(&code, 4) == 0x54ffffe1);
    nj_code_free(&code);
}

/* A branch over `distance` bytes in 19 bits of words: the status of finishing. */
static nj_emit_status branch_over(size_t distance)
{
    static const uint8_t zeros[1 << 20];
    nj_code_buffer code;
    int label;
    nj_code_init(&code);
    CHECK(nj_code_new_label(&code, &label) == NJ_OK);
    CHECK(word(&code, 0x54000001, label, B_COND) == NJ_OK);
    CHECK(nj_code_raw(&code, zeros, distance - 4) == NJ_OK);
    CHECK(nj_code_bind(&code, label) == NJ_OK);
    nj_emit_status status = nj_code_finish(&code);
    CHECK(status == NJ_OK || (code.fault.value == (int64_t)distance && word_at(&code, 0) == 0x54000001));
    nj_code_free(&code);
    return status;
}

static void distances_are_checked(void)
{
    CHECK(branch_over((1 << 20) - 4) == NJ_OK);
    CHECK(branch_over(1 << 20) == NJ_BRANCH_RANGE);
    CHECK(branch_over(10) == NJ_BRANCH_RANGE); /* not whole words */
}

static void size_is_limited(void)
{
    nj_code_buffer code;
    nj_code_init(&code);
    CHECK(nj_code_reserve(&code, (size_t)NJ_CODE_LIMIT + 1) == NJ_TOO_LARGE);
    CHECK(nj_code_reserve(&code, SIZE_MAX) == NJ_TOO_LARGE);
    CHECK(code.capacity == 0 && code.bytes == NULL);
    nj_code_free(&code);
}

static void pieces_are_put_together_again(void)
{
    nj_code_buffer code;
    nj_code_init(&code);
    CHECK(nj_field_insert(&BRANCH, 0x00b51063, -4) == 0xfeb51ee3); /* bne a0, a1, . - 4 */
    CHECK(nj_field_insert(&BRANCH, 0x00b51063, 2046) == 0x7eb51f63);
    for (int64_t value = -4096; value <= 4094; value += 2) {
        CHECK(nj_field_check(&code, &BRANCH, value) == NJ_OK);
        CHECK(nj_field_extract(&BRANCH, nj_field_insert(&BRANCH, 0xffffffff, value)) == value);
    }
    CHECK(nj_field_check(&code, &BRANCH, 4096) == NJ_FIELD_RANGE && code.fault.highest == 4094);
    CHECK(nj_field_check(&code, &BRANCH, 7) == NJ_FIELD_UNIT && code.fault.lowest == 2);
}

int main(void)
{
    pieces_are_put_together_again();
    fields_are_patched_and_nothing_else();
    distances_are_checked();
    size_is_limited();
    return failures != 0;
}
