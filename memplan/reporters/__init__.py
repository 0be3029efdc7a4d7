"""How answers leave memplan: one module per form, all of them listed here.

``terminal`` and ``markdown`` give a form to the blocks that ``views`` build; ``json`` is the
contract for programs; ``github``, ``sarif`` and ``junit`` carry findings into CI; ``csv`` is for
spreadsheets. ``sketches`` and ``pictures`` draw.
"""

from __future__ import annotations

REPORTERS = ("terminal", "json", "markdown", "github", "sarif", "junit", "csv")
"""Modules of this package that are forms of output, by the name ``--format`` knows them under."""
