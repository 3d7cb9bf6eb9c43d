# Buffers of 32-bit instruction words, included by _buffer.pyx.

from libc.limits cimport LLONG_MIN

cdef int WORD_CAPACITY = 2048
cdef long long ABSENT = LLONG_MIN


cdef class WordRows:
    """Rows of word forms in C, by id. Rows are added and never changed.

    kinds: what the numbers of each kind of operand are called."""

    def __cinit__(self):
        self.rows = <nj_word_form *>calloc(WORD_CAPACITY, sizeof(nj_word_form))
        if self.rows is NULL:
            raise MemoryError("form rows")
        self.rows_by_id = []
        self.kinds = {}

    def __dealloc__(self):
        free(self.rows)

    def add_row(self, row):
        """The id of `row` (a neurojit.encoder.word_row.WordRow, already checked)."""
        cdef nj_word_form *form
        cdef nj_field *field
        cdef int i, j
        if self.count == WORD_CAPACITY:
            raise EncodeError(f"{row.name!r}: all {WORD_CAPACITY} form rows are in use")
        form = &self.rows[self.count]
        form.pattern = row.pattern
        form.fields = len(row.fields)
        form.label, form.base, form.displacement = row.label, row.base, row.displacement
        form.vectors = 0
        for i in range(form.fields):
            source = row.fields[i]
            form.vectors |= source.is_vector << i
            form.lane_of[i] = source.lane_of
            field = &form.field[i]
            field.lowest, field.highest = source.lowest, source.highest
            field.shift, field.from_end = source.shift, source.from_end
            field.pieces = len(source.pieces)
            for j in range(field.pieces):
                field.piece[j].at, field.piece[j].from_bit, field.piece[j].bits = source.pieces[j]
        self.rows_by_id.append(row)
        self.count += 1
        return self.count - 1

    def row(self, int form):
        """The row with the id `form`."""
        if form < 0 or form >= self.count:
            raise EncodeError(f"form {form}: expected an id from 0 to {self.count - 1}, as forms[name] gives")
        return self.rows_by_id[form]

    def decode(self, int form, uint32_t word):
        """The value of each field of a word that the form's pattern matches; of a label, its distance."""
        cdef int64_t values[NJ_WORD_FIELDS]
        cdef int i
        row = self.row(form)
        if word & row.mask != row.pattern:
            raise EncodeError(f"{row.name}: {word:08x} is no such instruction: expected {row.pattern:08x}")
        nj_word_decode(&self.rows[form], word, values)
        return tuple([values[i] for i in range(self.rows[form].fields)])


cdef class WordBuffer(CodeBuffer):
    """Machine code of an ISA whose instructions are 32-bit words.

    `form` is an id that a word table gives for a name, once. `emit` takes one number for each operand of
    the name, in its order: registers, lanes, constants, labels."""

    def __init__(self, WordRows forms, int nop):
        """nop: the form that pads."""
        self.forms = forms
        self.rows = forms.rows
        self.fill = nj_word_fill
        self.nop = forms.row(nop).pattern

    cdef str describe(self, int form):
        return self.forms.row(form).name if 0 <= form < self.forms.count else f"form {form}"

    def emit(self, int form, long long a=ABSENT, long long b=ABSENT, long long c=ABSENT, long long d=ABSENT,
             long long e=ABSENT, long long f=ABSENT):
        """One instruction."""
        cdef int64_t[7] values = [a, b, c, d, e, f, ABSENT]
        self.check_count(form, values)
        cdef nj_emit_status status = nj_word_emit(&self.buffer, &self.rows[form], form, values)
        if status != NJ_OK:
            self.refuse(status, form, NULL)

    def replace(self, size_t record, int form, long long a=ABSENT, long long b=ABSENT, long long c=ABSENT,
                long long d=ABSENT, long long e=ABSENT, long long f=ABSENT):
        """Another instruction in place of the one that stands at `record`, a `mark`; that names no label."""
        cdef int64_t[7] values = [a, b, c, d, e, f, ABSENT]
        self.check_count(form, values)
        cdef nj_emit_status status = nj_word_replace(&self.buffer, record, &self.rows[form], form, values)
        if status == NJ_WRONG_SHAPE:
            raise EncodeError(f"replace: record {record} is no instruction that can be replaced")
        if status != NJ_OK:
            self.refuse(status, form, NULL)

    cdef int check_count(self, int form, int64_t *values) except -1:
        """That there is a value for each field of the form."""
        cdef int fields, i
        if not 0 <= form < self.forms.count:
            last = self.forms.count - 1
            raise EncodeError(f"form {form}: expected an id from 0 to {last}, as forms[name] gives")
        fields = self.rows[form].fields
        if values[fields] != ABSENT or (fields and values[fields - 1] == ABSENT):
            given = sum([values[i] != ABSENT for i in range(NJ_WORD_FIELDS)])
            raise EncodeError(f"{self.describe(form)}: {given} operands given, expected {fields}")
        return 0

    def word_at(self, size_t offset):
        """The instruction word at an offset, little-endian."""
        cdef uint32_t word
        if offset + 4 > self.buffer.size:
            raise EncodeError(f"code buffer: offset={offset}, expected at most {self.buffer.size - 4}")
        memcpy(&word, self.buffer.bytes + offset, 4)
        return word

    def repeat(self, size_t first, int times, dict shifts not None, bytes following not None=SAME_REGISTERS,
               dict lanes not None=NO_LANES):
        """Emits the instructions from `mark` `first` on again, `times` times, each time grown once more.

        shifts: {base register: bytes}, by how much displacements from it grow. following: a table of
        bytes.maketrans: what each vector register becomes. lanes: {vector register: by how much a lane that
        an instruction names of it grows}. EncodeError, and nothing is emitted, for what names a label, for
        padding and data, for a base that moves where the form has no displacement, and where a number does
        not fit its field."""
        cdef nj_word_growth growth
        cdef int refused = -1
        growth.following = translation(following)
        fill_shifts(growth.shift, NJ_WORD_POINTERS, shifts)
        memset(growth.lanes, 0, sizeof(growth.lanes))
        for register, lane in lanes.items():
            if not 0 <= register < NJ_WORD_VECTORS:
                raise EncodeError(f"repeat: register={register}, expected 0 to {NJ_WORD_VECTORS - 1}")
            growth.lanes[<int>register] = lane
        self.check_mark(first)
        cdef nj_emit_status status = nj_word_repeat(&self.buffer, self.rows, first, times, &growth, &refused)
        if status == NJ_WRONG_SHAPE:
            raise EncodeError(
                "repeat: labels, padding, data and bases without displacement cannot be repeated"
            )
        if status != NJ_OK:
            self.refuse(status, refused, NULL)

    cdef int refuse(self, nj_emit_status status, int form, nj_operands *operands) except -1:
        fault = self.buffer.fault
        where = self.describe(form)
        if status == NJ_FIELD_RANGE or status == NJ_FIELD_UNIT:
            field = self.forms.row(form).fields[fault.operand]
            what = f"{fault.lowest} to {fault.highest}, {field.bits} bits"
            if status == NJ_FIELD_UNIT:
                what = f"a multiple of {fault.lowest}"
            given = f"operand {fault.operand} ({field.name})={fault.value}"
            raise EncodeError(f"{where}: {given}, expected {what}")
        if status == NJ_MISALIGNED:
            at = self.buffer.size
            raise EncodeError(f"{where}: at {at}, expected a multiple of 4; align(4) after data")
        return CodeBuffer.refuse(self, status, form, operands)
