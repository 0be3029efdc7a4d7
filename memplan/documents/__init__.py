"""Text with spans: reads YAML, JSON, TOML, Modelfiles, Python and C++ and builds byte-exact edits.

A reader turns a :class:`~memplan.documents.source.Source` into nodes that know where they stand;
``edits`` turns a node and a new value into a replacement of exactly that range. Nothing here knows
what a key means.
"""
