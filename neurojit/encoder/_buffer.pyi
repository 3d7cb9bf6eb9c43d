from collections.abc import Sequence

from neurojit.encoder.row import Row
from neurojit.encoder.word_row import WordRow

ADDRESS_NONE: int
ADDRESS_BASE: int
ADDRESS_INDEXED: int
ADDRESS_LABEL: int
ADDRESS_BRANCH: int
PADDING: int
DATA: int
SAME_REGISTERS: bytes

RecordTuple = tuple[int, int, int, int, tuple[int, ...], int, int, int, int, int | None]

def fail_allocation_after(successes: int) -> None: ...

class CodeBuffer:
    def new_label(self) -> int: ...
    def bind(self, label: int) -> None: ...
    def label_offset(self, label: int) -> int | None: ...
    def align(self, alignment: int) -> None: ...
    def raw(self, data: bytes) -> None: ...
    def copy(self, first: int, last: int) -> None: ...
    def code(self) -> bytes: ...
    @property
    def mark(self) -> int: ...
    def finish(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def labels(self) -> list[int | None]: ...
    def records(self) -> list[RecordTuple]: ...

class FormRows:
    count: int
    def add_row(self, row: Row) -> int: ...
    def row(self, form: int) -> Row: ...

class X86Buffer(CodeBuffer):
    forms: FormRows
    def __init__(self, forms: FormRows) -> None: ...
    def regs(self, form: int, a: int = -1, b: int = -1, c: int = -1, d: int = -1) -> None: ...
    def imm(self, form: int, value: int, a: int = -1, b: int = -1, c: int = -1, d: int = -1) -> None: ...
    def mem(self, form: int, base: int, disp: int, a: int = -1, b: int = -1, c: int = -1) -> None: ...
    def mem_imm(
        self, form: int, base: int, disp: int, value: int, a: int = -1, b: int = -1, c: int = -1
    ) -> None: ...
    def mem_indexed(
        self, form: int, base: int, index: int, scale: int, disp: int, a: int = -1, b: int = -1, c: int = -1
    ) -> None: ...
    def rip(self, form: int, label: int, a: int = -1, b: int = -1, c: int = -1) -> None: ...
    def jump(self, form: int, label: int) -> None: ...
    def check(
        self,
        form: int,
        registers: Sequence[int],
        address: int = ...,
        base: int = -1,
        index: int = -1,
        scale: int = 1,
        disp: int = 0,
        label: int = -1,
        value: int | None = None,
    ) -> None: ...
    def append_encoded(
        self,
        form: int,
        encoding: bytes,
        registers: Sequence[int],
        address: int = ...,
        base: int = -1,
        index: int = -1,
        scale: int = 1,
        disp: int = 0,
        label: int = -1,
        value: int | None = None,
    ) -> None: ...
    def repeat(
        self,
        first: int,
        times: int,
        shifts: dict[int, int],
        following: bytes = ...,
        form: int = -1,
        immediate: int = 0,
    ) -> None: ...

class WordRows:
    count: int
    kinds: dict[str, tuple[str, ...]]
    def add_row(self, row: WordRow) -> int: ...
    def row(self, form: int) -> WordRow: ...
    def decode(self, form: int, word: int) -> tuple[int, ...]: ...

class WordBuffer(CodeBuffer):
    forms: WordRows
    def __init__(self, forms: WordRows, nop: int) -> None: ...
    def emit(
        self, form: int, a: int = ..., b: int = ..., c: int = ..., d: int = ..., e: int = ..., f: int = ...
    ) -> None: ...
    def repeat(
        self,
        first: int,
        times: int,
        shifts: dict[int, int],
        following: bytes = ...,
        lanes: dict[int, int] = ...,
    ) -> None: ...
    def replace(
        self,
        record: int,
        form: int,
        a: int = ...,
        b: int = ...,
        c: int = ...,
        d: int = ...,
        e: int = ...,
        f: int = ...,
    ) -> None: ...
    def word_at(self, offset: int) -> int: ...
