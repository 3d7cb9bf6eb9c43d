"""Every exception neurojit raises on its own account.

An error says where, what was expected, what came, and what to do next. Errors that NumPy would raise
for the same call (shapes, dtypes, read-only outputs) are NumPy's own and are not wrapped.
"""

from __future__ import annotations


class NeurojitError(Exception):
    """Base of all errors raised by neurojit itself."""


class ConfigurationError(NeurojitError, ValueError):
    """An environment variable or setting has a value neurojit does not know."""


class EncodeError(NeurojitError, ValueError):
    """An operand does not fit its field, a label stays unbound, or a form takes other operands."""


class UnknownFormError(NeurojitError, LookupError):
    """An instruction form that neither the encoder table nor an importable PeachPy can encode."""


class RegisterPressureError(NeurojitError, RuntimeError):
    """A template asked its vector machine for more registers than the ISA has."""


class ExecutableMemoryError(NeurojitError, RuntimeError):
    """No strategy could map the code executable; what each one answered is in the text."""


class ValidationError(NeurojitError, RuntimeError):
    """An emitted kernel disagreed with the reference and was not published."""


class RecordingError(NeurojitError, ValueError):
    """A file of recorded CPU facts (`neurojit features --raw`) does not have the form of one."""


class UnknownIsaError(NeurojitError, LookupError):
    """A name that is no row of the ISA table, or an ISA that nothing is emitted for."""


class StorageError(NeurojitError):
    """Packed weights that no kernel can read: a storage type that an ISA does not widen, or too large."""
