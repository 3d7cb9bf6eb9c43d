"""The C code buffer and the encoders for Python: a thin layer that turns statuses into exceptions.

Emission is a def method with C integers for arguments and no allocation: Python's call is what it costs.
`CodeBuffer` is of no ISA: labels, data, records. `X86Buffer` and `WordBuffer` append instructions to it.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from neurojit.errors import EncodeError

# Rows never move, so that buffers may keep a pointer while other threads learn forms.
cdef int CAPACITY = 4096

# How a record addresses memory or code; the last two are records that are no instruction.
ADDRESS_NONE, ADDRESS_BASE, ADDRESS_INDEXED = NJ_ADDRESS_NONE, NJ_ADDRESS_BASE, NJ_ADDRESS_INDEXED
ADDRESS_LABEL, ADDRESS_BRANCH, PADDING, DATA = NJ_ADDRESS_LABEL, NJ_ADDRESS_BRANCH, NJ_PADDING, NJ_DATA

SAME_REGISTERS = bytes.maketrans(b"", b"")  # every register stays the one it is
NO_LANES = {}


def fail_allocation_after(int successes):
    """The allocation of buffer memory after so many fails; -1: none does. For tests."""
    global nj_code_allocations_left
    nj_code_allocations_left = successes


cdef class CodeBuffer:
    """Machine code in the making: bytes, labels, fixups and a record of every instruction.

    Nothing is emitted by a call that raises. EncodeError: an operand does not fit its field; the error
    names form, operand, value and limits. MemoryError: the buffer cannot grow. Not to be shared between
    threads while they emit."""

    def __cinit__(self, *_):
        nj_code_init(&self.buffer)

    def __dealloc__(self):
        nj_code_free(&self.buffer)

    cdef str describe(self, int form):
        return f"form {form}"

    def new_label(self):
        """A label, as yet unbound."""
        cdef int label = -1
        cdef nj_emit_status status = nj_code_new_label(&self.buffer, &label)
        if status != NJ_OK:
            self.refuse(status, -1, NULL)
        return label

    def bind(self, int label):
        """Binds `label` to here."""
        cdef nj_emit_status status = nj_code_bind(&self.buffer, label)
        if status != NJ_OK:
            self.refuse(status, -1, NULL)

    def label_offset(self, int label):
        """Where `label` is bound, in bytes from the start; None while it is not."""
        cdef nj_emit_status status = nj_code_check_label(&self.buffer, label)
        if status != NJ_OK:
            self.refuse(status, -1, NULL)
        return self.buffer.labels[label] if self.buffer.labels[label] >= 0 else None

    def align(self, long long alignment):
        """Pads with NOPs to a multiple of `alignment`, a power of two up to 4096."""
        cdef nj_emit_status status = nj_code_align(&self.buffer, alignment, self.fill, self.nop)
        if status != NJ_OK:
            self.refuse(status, -1, NULL)

    def raw(self, bytes data not None):
        """Appends data, for instance constants that `rip` refers to."""
        cdef nj_emit_status status = nj_code_raw(&self.buffer, <const char *>data, len(data))
        if status != NJ_OK:
            self.refuse(status, -1, NULL)

    def copy(self, size_t first, size_t last):
        """Emits what lies from mark `first` to mark `last` once more, loops and all; see nj_code_copy.

        Padding may come before it. EncodeError, and nothing is emitted, for marks that are none."""
        cdef nj_emit_status status = nj_code_copy(&self.buffer, first, last, self.fill, self.nop)
        if status == NJ_UNKNOWN_RECORD:
            fault = self.buffer.fault
            raise EncodeError(f"copy: mark {fault.value}, expected at most {fault.highest}")
        if status != NJ_OK:
            self.refuse(status, -1, NULL)

    cdef int check_mark(self, size_t first) except -1:
        if first > self.buffer.record_count:
            raise EncodeError(f"repeat: first={first}, expected a mark up to {self.buffer.record_count}")
        return 0

    @property
    def mark(self):
        """Where `repeat` may start again: the number of instructions so far."""
        return self.buffer.record_count

    def finish(self):
        """The code, every reference to a label resolved. The buffer takes nothing more after it.

        EncodeError: a label that is referred to was never bound, or lies beyond what its field spans."""
        cdef nj_emit_status status = nj_code_finish(&self.buffer)
        if status != NJ_OK:
            self.refuse(status, -1, NULL)
        return self.code()

    def code(self):
        """The bytes so far; references to labels are zeros until finish()."""
        return self.buffer.bytes[:self.buffer.size] if self.buffer.size else b""

    @property
    def size(self):
        """Bytes so far."""
        return self.buffer.size

    @property
    def labels(self):
        """The offset of each label, None for an unbound one."""
        return [self.label_offset(label) for label in range(<int>self.buffer.label_count)]

    def records(self):
        """One tuple per instruction, padding or data, in order; listing.Record names the fields."""
        cdef nj_record *r
        cdef size_t i
        cdef int k
        result = []
        for i in range(self.buffer.record_count):
            r = &self.buffer.records[i]
            end = self.buffer.records[i + 1].offset if i + 1 < self.buffer.record_count else self.buffer.size
            registers = tuple([<int>r.registers[k] for k in range(NJ_OPERANDS) if r.registers[k] >= 0])
            result.append((
                r.offset, end - r.offset, r.form, r.address, registers, r.base, r.index, r.scale,
                r.displacement, r.immediate if r.has_immediate else None,
            ))
        return result

    cdef int refuse(self, nj_emit_status status, int form, nj_operands *operands) except -1:
        """Raises what `status` means: what can befall every ISA's instructions."""
        fault = self.buffer.fault
        limits = f"expected {fault.lowest} to {fault.highest}"
        where = self.describe(form) if form >= 0 or operands is not NULL else "code buffer"
        if status == NJ_NO_MEMORY:
            raise MemoryError(f"{where}: code buffer of {self.buffer.size} bytes cannot grow")
        if status == NJ_TOO_LARGE:
            raise EncodeError(f"{where}: {self.buffer.size} bytes so far: expected at most 2^30 in all")
        if status == NJ_CLOSED:
            raise EncodeError(f"{where}: the buffer is finished; emit into a new one")
        if status == NJ_UNKNOWN_LABEL:
            whose = f"this buffer's {fault.highest + 1}"
            raise EncodeError(f"{where}: label {fault.value} is none of {whose}; use new_label()")
        if status == NJ_LABEL_BOUND_TWICE:
            offset = self.buffer.labels[fault.value]
            raise EncodeError(f"{where}: label L{fault.value} is bound already, at {offset}")
        if status == NJ_LABEL_UNBOUND:
            label = f"label L{fault.operand}"
            raise EncodeError(f"{where}: {label} is referred to and was never bound; bind() it")
        if status == NJ_BRANCH_RANGE:
            raise EncodeError(f"{where}: label L{fault.operand}: distance={fault.value}, {limits}")
        raise EncodeError(f"{where}: align={fault.value}: expected a power of two from 1 to 4096")


cdef class FormRows:
    """Form rows in C, by id. Rows are added and never changed."""

    def __cinit__(self):
        self.rows = <nj_x86_form *>calloc(CAPACITY, sizeof(nj_x86_form))
        if self.rows is NULL:
            raise MemoryError("form rows")
        self.rows_by_id = []

    def __dealloc__(self):
        free(self.rows)

    def add_row(self, row):
        """The id of `row` (a neurojit.encoder.row.Row, already checked)."""
        cdef nj_x86_form *form
        cdef int i, bit
        if self.count == CAPACITY:
            raise EncodeError(f"{row.name!r}: all {CAPACITY} form rows are in use")
        form = &self.rows[self.count]
        memset(form, 0, sizeof(nj_x86_form))
        form.length = len(row.pattern)
        for i in range(form.length):
            form.pattern[i] = row.pattern[i]
        form.shape = NJ_X86_MEMORY if row.modrm >= 0 else NJ_X86_BRANCH if row.branch else NJ_X86_REGISTERS
        form.registers = len(row.registers)
        for i in range(form.registers):
            kind, flips = row.registers[i]
            form.bits[i] = len(flips)
            form.lowest[i] = kind == "mask"
            form.vectors |= (kind in ("xmm", "ymm", "zmm")) << i
            for bit in range(form.bits[i]):
                form.flip[i][bit] = flips[bit]
        if row.modrm >= 0:
            form.base_flip = row.base
            form.index_flip = row.index
            form.disp8_shift = row.disp8.bit_length() - 1
        form.immediate_bytes = row.immediate_bytes
        form.immediate_signed = row.immediate.startswith("s")
        self.rows_by_id.append(row)
        self.count += 1
        return self.count - 1

    def row(self, int form):
        """The row with the id `form`."""
        if form < 0 or form >= self.count:
            raise EncodeError(f"form {form}: expected an id from 0 to {self.count - 1}, as forms[name] gives")
        return self.rows_by_id[form]


cdef inline void start(nj_operands *operands, int address, int a, int b, int c, int d) noexcept:
    operands.registers[0] = a
    operands.registers[1] = b
    operands.registers[2] = c
    operands.registers[3] = d
    operands.address = address
    operands.base = -1
    operands.index = -1
    operands.scale = 1
    operands.displacement = 0
    operands.label = -1
    operands.has_immediate = 0
    operands.immediate = 0


cdef class X86Buffer(CodeBuffer):
    """x86-64 machine code in the making.

    `form` is an id that a form table gives for a name, once: `forms["vfmadd231ps zmm, zmm, zmm"]`.
    Registers are numbers in the textual order of the name, write masks included, memory and constants
    left out."""

    def __init__(self, FormRows forms):
        self.forms = forms
        self.rows = forms.rows
        self.fill = nj_x86_fill_nops

    cdef str describe(self, int form):
        return self.forms.row(form).name if 0 <= form < self.forms.count else f"form {form}"

    cdef int emit(self, int form, nj_operands *operands) except -1:
        cdef nj_emit_status status = NJ_UNKNOWN_FORM
        if 0 <= form < self.forms.count:
            status = nj_x86_emit(&self.buffer, &self.rows[form], form, operands)
        if status != NJ_OK:
            self.refuse(status, form, operands)
        return 0

    def regs(self, int form, int a=-1, int b=-1, int c=-1, int d=-1):
        """An instruction on registers alone, or on nothing."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_NONE, a, b, c, d)
        self.emit(form, &operands)

    def imm(self, int form, value, int a=-1, int b=-1, int c=-1, int d=-1):
        """Registers and a constant. A 64-bit one may be signed or unsigned."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_NONE, a, b, c, d)
        operands.has_immediate = 1
        operands.immediate = immediate(self, form, value)
        self.emit(form, &operands)

    def mem(self, int form, int base, long long disp, int a=-1, int b=-1, int c=-1):
        """Registers and [base + disp]; disp in bytes, compressed to 8 bits where it can be."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_BASE, a, b, c, -1)
        operands.base = base
        operands.displacement = disp
        self.emit(form, &operands)

    def mem_imm(self, int form, int base, long long disp, value, int a=-1, int b=-1, int c=-1):
        """Registers, [base + disp] and a constant."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_BASE, a, b, c, -1)
        operands.base = base
        operands.displacement = disp
        operands.has_immediate = 1
        operands.immediate = immediate(self, form, value)
        self.emit(form, &operands)

    def mem_indexed(self, int form, int base, int index, int scale, long long disp, int a=-1, int b=-1,
                    int c=-1):
        """Registers and [base + index * scale + disp]; scale is 1, 2, 4 or 8, index not rsp."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_INDEXED, a, b, c, -1)
        operands.base = base
        operands.index = index
        operands.scale = scale
        operands.displacement = disp
        self.emit(form, &operands)

    def rip(self, int form, int label, int a=-1, int b=-1, int c=-1):
        """Registers and [rip + label]: memory at a label of this buffer."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_LABEL, a, b, c, -1)
        operands.label = label
        self.emit(form, &operands)

    def jump(self, int form, int label):
        """A branch to a label, bound before or after."""
        cdef nj_operands operands
        start(&operands, NJ_ADDRESS_BRANCH, -1, -1, -1, -1)
        operands.label = label
        self.emit(form, &operands)

    def check(self, int form, registers, int address=NJ_ADDRESS_NONE, int base=-1, int index=-1, int scale=1,
              long long disp=0, int label=-1, value=None):
        """Raises what emitting these operands would raise, and emits nothing."""
        self.foreign(form, registers, address, base, index, scale, disp, label, value, None)

    def append_encoded(self, int form, bytes encoding not None, registers, int address=NJ_ADDRESS_NONE,
                       int base=-1, int index=-1, int scale=1, long long disp=0, int label=-1, value=None):
        """An instruction encoded elsewhere: checked, recorded and fixed up like any other.

        address: one of the ADDRESS_ constants. EncodeError also for an encoding too short or too long."""
        self.foreign(form, registers, address, base, index, scale, disp, label, value, encoding)

    cdef int foreign(self, int form, object registers, int address, int base, int index, int scale,
                     long long disp, int label, object value, bytes encoding) except -1:
        cdef nj_operands operands
        cdef nj_emit_status status = NJ_UNKNOWN_FORM
        if address < 0 or address > <int>NJ_ADDRESS_BRANCH:
            raise EncodeError(f"{self.describe(form)}: address={address} is none of the ADDRESS_ constants")
        a, b, c, d = (*registers, -1, -1, -1, -1)[:NJ_OPERANDS]
        start(&operands, address, a, b, c, d)
        operands.base = base
        operands.index = index
        operands.scale = scale
        operands.displacement = disp
        operands.label = label
        if value is not None:
            operands.has_immediate = 1
            operands.immediate = immediate(self, form, value)
        if 0 <= form < self.forms.count:
            if encoding is None:
                status = nj_x86_check(&self.buffer, &self.rows[form], &operands)
            else:
                status = nj_x86_append(&self.buffer, &self.rows[form], form, &operands,
                                       <const unsigned char *>encoding, len(encoding))
        if status != NJ_OK:
            self.refuse(status, form, &operands)
        return 0

    def repeat(self, size_t first, int times, dict shifts not None, bytes following not None=SAME_REGISTERS,
               int form=-1, int immediate=0):
        """Emits the instructions from `mark` `first` on again, `times` times, each time grown once more.

        shifts: {base register: bytes}, by how much displacements from it grow. following: a table of
        bytes.maketrans: what each vector register becomes. immediate: by how much those of `form` grow.
        EncodeError, and nothing is emitted, for branches, padding and data, a displacement beyond 32 bits, an
        immediate beyond its own, or a register beyond the last. What is at a label stays what it is."""
        cdef nj_x86_growth growth
        growth.following = translation(following)
        growth.form, growth.immediate = form, immediate
        fill_shifts(growth.shift, 16, shifts)
        self.check_mark(first)
        cdef nj_emit_status status = nj_x86_repeat(&self.buffer, self.rows, first, times, &growth)
        if status == NJ_WRONG_SHAPE:
            raise EncodeError("repeat: branches, padding and data cannot be repeated")
        if status == NJ_REGISTER_RANGE:
            fault = self.buffer.fault
            limits = f"expected {fault.lowest} to {fault.highest}"
            raise EncodeError(f"repeat: vector register={fault.value}, {limits}")
        if status != NJ_OK:
            self.refuse(status, -1, NULL)

    cdef int refuse(self, nj_emit_status status, int form, nj_operands *operands) except -1:
        fault = self.buffer.fault
        limits = f"expected {fault.lowest} to {fault.highest}"
        where = self.describe(form)
        if status == NJ_UNKNOWN_FORM:
            last = self.forms.count - 1
            raise EncodeError(f"{where}: expected an id from 0 to {last}, as forms[name] gives")
        if status == NJ_WRONG_SHAPE:
            raise EncodeError(f"{where}: {shape_of(operands)} given; emit what its name says")
        if status == NJ_ENCODING_LENGTH:
            raise EncodeError(f"{where}: encoding of {fault.value} bytes, {limits}")
        if status == NJ_REGISTER_RANGE:
            kind = self.forms.row(form).registers[fault.operand][0]
            raise EncodeError(f"{where}: register operand {fault.operand} ({kind})={fault.value}, {limits}")
        if status == NJ_BASE_RANGE:
            raise EncodeError(f"{where}: base={fault.value}, {limits}")
        if status == NJ_INDEX_RANGE:
            raise EncodeError(f"{where}: index={fault.value}, {limits} except 4: rsp cannot be an index")
        if status == NJ_SCALE_RANGE:
            raise EncodeError(f"{where}: scale={fault.value}, expected 1, 2, 4 or 8")
        if status == NJ_DISPLACEMENT_RANGE:
            raise EncodeError(f"{where}: displacement={fault.value}, {limits}")
        if status == NJ_IMMEDIATE_RANGE:
            raise EncodeError(f"{where}: immediate={fault.value}, {limits}")
        return CodeBuffer.refuse(self, status, form, operands)


cdef const unsigned char *translation(bytes table) except NULL:
    """The table's bytes."""
    if len(table) != 256:
        raise EncodeError(f"repeat: following={len(table)} bytes, expected the 256 of bytes.maketrans")
    return <const unsigned char *>table


cdef int fill_shifts(int64_t *shift, int pointers, dict shifts) except -1:
    memset(shift, 0, pointers * sizeof(int64_t))
    for base, distance in shifts.items():
        if not 0 <= base < pointers:
            raise EncodeError(f"repeat: base={base}, expected 0 to {pointers - 1}")
        shift[<int>base] = distance
    return 0


cdef int64_t immediate(X86Buffer buffer, int form, value) except? -1:
    """`value` as the 64 bits that C sees; the range of narrower fields is checked there."""
    cdef long long number
    try:
        number = value
    except OverflowError:
        if 0 <= form < buffer.forms.count and buffer.rows[form].immediate_bytes == 8 and 0 <= value < 1 << 64:
            return <int64_t>(value - (1 << 64))  # the same bits
        raise EncodeError(f"{buffer.describe(form)}: immediate={value} does not fit in 64 bits") from None
    return number


cdef str shape_of(nj_operands *operands):
    cdef int i, count = 0
    for i in range(NJ_OPERANDS):
        count += operands.registers[i] != -1
    parts = [f"{count} registers"]
    if operands.address == NJ_ADDRESS_BRANCH:
        parts.append("a branch label")
    elif operands.address != NJ_ADDRESS_NONE:
        parts.append("memory")
    if operands.has_immediate:
        parts.append("an immediate")
    return " and ".join(parts)


include "_word_buffer.pxi"
