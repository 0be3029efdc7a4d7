"""Nouns of memory planning: frozen values, integers of bytes, errors that point at the text.

Nothing here reads a file, imports a heavy library or prints. Every other layer speaks in these terms.
"""
