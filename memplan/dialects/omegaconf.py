"""Documents that a framework reads with OmegaConf: its number formats, its duplicates, its interpolations."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.reading import Document
from memplan.documents import yaml
from memplan.documents.interpolation import resolved
from memplan.documents.tree import Language
from memplan.documents.yaml_resolvers import Resolver


def loaded(document: Document, *, interpolates: bool = True) -> Document:
    """The same document with the types OmegaConf gives its values (``2e-5`` is a number).

    With ``interpolates`` every ``${a.b}`` that the file answers is read; it is never edited.

    Raises:
        DocumentError: a key is written twice.
    """
    if document.root.language is not Language.YAML:
        return document
    root = yaml.parse(document.source, resolver=Resolver.OMEGACONF)
    return replace(document, root=resolved(document.source, root) if interpolates else root)
