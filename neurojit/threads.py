"""How many threads a product may use.

    nj.set_num_threads(4)        # from now on, in the whole process
    nj.get_num_threads()
    with nj.num_threads(1):      # for a while
        ...

The limit starts as NEUROJIT_NUM_THREADS, or as the number of cores this process may run on. It bounds
each product, the calling thread included; small products use one thread whatever it is. It is read when
a product starts, so a change holds from the next one on, and it never changes a bit of a result. Of
several Python threads that multiply at once, one has the workers and the others run alone.

threadpoolctl (and with it joblib and scikit-learn) sees and sets the limit like that of any BLAS: a
controller is registered with it when it is imported, before or after neurojit.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from neurojit.config import CONFIG
from neurojit.runtime import _blocked

MOST_THREADS = 256
"""NJ_MOST_THREADS of csrc/thread_pool.h: a larger limit counts as this one."""


def set_num_threads(n: int) -> None:
    """Let a product use up to `n` threads from now on, process-wide. ValueError unless n >= 1."""
    n = operator.index(n)
    if n < 1:
        raise ValueError(f"number of threads is {n}, expected at least 1 (the calling thread counts)")
    _blocked.set_thread_limit(min(n, MOST_THREADS))


def get_num_threads() -> int:
    """The most threads that a product may use."""
    return _blocked.thread_limit()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """`with nj.num_threads(n):` sets the limit, process-wide, and restores the one it found."""
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def usable_cores() -> int:
    """Cores that this process may run on: of its affinity mask where there is one, else of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# threadpoolctl ---------------------------------------------------------------------------------------


def register_with(threadpoolctl: ModuleType) -> None:
    """Tell threadpoolctl of neurojit. Releases before 3.2 take no controllers and are left alone.

    threadpoolctl looks through the loaded shared libraries for a controller's file names; ours is the
    extension module that holds the pool. It exports no symbol for this: the limit has one owner, above.
    """
    if not hasattr(threadpoolctl, "register"):
        return
    base: Any = threadpoolctl.LibController

    class NeurojitController(base):  # type: ignore[misc]
        user_api = "neurojit"
        internal_api = "neurojit"
        filename_prefixes = (os.path.basename(_blocked.__file__).partition(".")[0] + ".",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(max(num_threads, 1))

        def get_version(self) -> str:
            from neurojit import __version__

            return __version__

    threadpoolctl.register(NeurojitController)


class _WhenImported:
    """Runs `register_with` once threadpoolctl is imported, and is then gone from the import system.

    Not derived from importlib.abc.MetaPathFinder, which it need not be: that module takes long to import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "threadpoolctl":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            register_with(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


set_num_threads(CONFIG.num_threads or usable_cores())
if "threadpoolctl" in sys.modules:
    register_with(sys.modules["threadpoolctl"])
else:
    sys.meta_path.insert(0, _WhenImported())
