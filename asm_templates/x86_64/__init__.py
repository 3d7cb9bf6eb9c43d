"""x86-64: the encoder table made by PeachPy, and the vector machines AVX2/FMA and AVX-512."""
