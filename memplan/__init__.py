"""memplan: where every byte of GPU memory will go, before you rent the GPU."""

__version__ = "0.1.0"
