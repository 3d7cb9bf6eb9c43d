"""The vector machine of AArch64 NEON, and its encoder table."""
