"""Configuration: environment variables, read once at import and frozen.

The README documents each variable. Nothing else in the package reads `os.environ`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from neurojit.errors import ConfigurationError

ISA_CHOICES = ("avx512", "avx2", "neon", "rvv", "none")
LEVEL_CHOICES = ("O0", "O1", "O2", "O3")
ENCODER_CHOICES = ("table", "peachpy")
DUMP_CHOICES = ("ir", "plan", "asm")


@dataclass(frozen=True)
class Config:
    """isa: cap or choose the ISA, None for the best one. encoder: where x86-64 bytes come from.
    peachpy_path: where PeachPy is, for forms beyond the encoder table; None for sys.path.
    code_cache_bytes: executable bytes kept before the least recently used kernels are evicted.
    num_threads: most threads a product may use, None for all cores this process may run on.
    dump: the stages that print what they made to the standard error: of DUMP_CHOICES.
    level: of optimization, for calls that name none."""

    isa: str | None = None
    encoder: str = "table"
    peachpy_path: str | None = None
    code_cache_bytes: int = 64 << 20
    num_threads: int | None = None
    dump: tuple[str, ...] = ()
    level: str = "O3"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Config:
        return cls(
            isa=_choice(environ, "NEUROJIT_ISA", ISA_CHOICES, None),
            encoder=_choice(environ, "NEUROJIT_ENCODER", ENCODER_CHOICES, "table") or "table",
            peachpy_path=environ.get("PEACHPY_PATH") or None,
            code_cache_bytes=_positive(environ, "NEUROJIT_CODE_CACHE_BYTES", 64 << 20),
            num_threads=_positive(environ, "NEUROJIT_NUM_THREADS", 0) or None,
            dump=_choices(environ, "NEUROJIT_DUMP", DUMP_CHOICES),
            level=_choice(environ, "NEUROJIT_LEVEL", LEVEL_CHOICES, "O3") or "O3",
        )


def _choice(
    environ: Mapping[str, str], name: str, choices: tuple[str, ...], default: str | None
) -> str | None:
    value = environ.get(name, "")
    if value == "":
        return default
    if value not in choices:
        raise ConfigurationError(
            f"{name}={value!r}: expected one of {', '.join(choices)}; unset it for the default"
        )
    return value


def _choices(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Choices between commas, in the order of `choices`."""
    values = [value for value in environ.get(name, "").split(",") if value]
    for value in values:
        if value not in choices:
            raise ConfigurationError(
                f"{name}={environ[name]!r}: expected any of {', '.join(choices)}, got {value!r}; "
                "unset it to print nothing"
            )
    return tuple(choice for choice in choices if choice in values)


def _positive(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name, "")
    if value == "":
        return default
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise ConfigurationError(
            f"{name}={value!r}: expected a positive integer; unset it for {default or 'the default'}"
        )
    return int(value)


CONFIG = Config.from_environment(os.environ)
