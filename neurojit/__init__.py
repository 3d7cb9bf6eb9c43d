"""A just-in-time compiler for small neural networks on CPUs."""
