"""Passes over TensorLang: valid IR in, valid IR out."""
