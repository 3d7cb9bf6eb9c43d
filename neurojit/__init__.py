"""neurojit: a just-in-time compiler for small neural networks on CPUs.

    import neurojit as nj
    c = nj.matmul(a, b)          # numpy.matmul, by machine code compiled for the shape
    nj.info()                    # ISA, executable memory, kernels, and what NumPy answered and why
"""

from neurojit import errors
from neurojit.numpy_matmul import matmul
from neurojit.state import Info, info

__version__ = "0.1.0"
__all__ = ["Info", "__version__", "errors", "info", "matmul"]
