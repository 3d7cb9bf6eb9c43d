"""Whether this process may execute what it emits, and if not, why."""

from __future__ import annotations

from typing import NamedTuple

from neurojit.config import CONFIG
from neurojit.runtime import _runtime


class ExecutableMemory(NamedTuple):
    """strategy: how the latest mapping was made: 'memfd', 'mprotect', 'MAP_JIT', 'none', or 'untried' before
    the first. reasons: for each strategy that failed, what it last failed of. closed: every strategy was
    refused for good; otherwise a failure was a shortage, which may pass. Byte counts are of whole pages."""

    strategy: str
    reasons: tuple[str, ...]
    live_bytes: int
    live_mappings: int
    total_mappings: int
    closed: bool = False


def executable_memory() -> ExecutableMemory:
    """The state of this process's executable memory."""
    return ExecutableMemory(_runtime.strategy(), _runtime.failures(), *_runtime.usage(), _runtime.closed())


def keep_within_cache() -> None:
    """Evict what was not called lately once the published code outgrows its budget. Called by whoever has
    published something."""
    excess = _runtime.SLOTS.stats()["live_bytes"] - CONFIG.code_cache_bytes
    if excess > 0:
        _runtime.SLOTS.evict_bytes(excess)
