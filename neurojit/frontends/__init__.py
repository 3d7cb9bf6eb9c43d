"""Where programs come from besides TensorLang's own text: Python functions, traced."""
