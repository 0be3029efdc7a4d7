"""Which type a plain YAML text has: every framework's reader has its own idea.

PyYAML follows YAML 1.1 (``Resolver`` in yaml/resolver.py, 6.0.3). OmegaConf and jsonargparse take its
loader and add numbers such as ``2e-5`` (``get_yaml_loader`` in omegaconf/_yaml.py, 2.4.0;
``get_yaml_default_loader`` in jsonargparse/_loaders_dumpers.py, 4.53.0). ruamel.yaml follows YAML 1.2
(``implicit_resolvers`` in ruamel/yaml/resolver.py, 0.19.1).
"""

from __future__ import annotations

import re
from enum import Enum

_MORE_FLOATS = re.compile(
    r"[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+"
    r"|\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?"
)
_VERSION_1_2 = {
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "float": re.compile(
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
    "int": re.compile(r"[-+]?(?:0b[0-1_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"),
    "null": re.compile(r"~|null|Null|NULL|"),
    "merge": re.compile(r"<<"),
}


class Resolver(Enum):
    """A reader of YAML, by the library's name."""

    PYYAML = "PyYAML"
    JSONARGPARSE = "jsonargparse"
    OMEGACONF = "OmegaConf"
    YAML12 = "ruamel.yaml"

    @property
    def refuses_duplicates(self) -> bool:
        """Whether a key that is written twice is an error instead of the last one winning."""
        return self in (Resolver.OMEGACONF, Resolver.YAML12)

    def kind(self, text: str, pyyaml: str) -> str:
        """The type of a plain text (``int``, ``str``, …), given what PyYAML takes it for."""
        if self is Resolver.PYYAML:
            return pyyaml
        if self is Resolver.YAML12:
            return next((kind for kind, form in _VERSION_1_2.items() if form.fullmatch(text)), "str")
        return "float" if pyyaml == "str" and _MORE_FLOATS.fullmatch(text) else pyyaml
