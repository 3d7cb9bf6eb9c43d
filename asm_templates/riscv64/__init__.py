"""RISC-V: the table of instruction words, and the vector machine RVV, specialised to a vector length."""
