"""FORMULAS.md from the simulator: what every op allocates, saves for backward, and makes in backward.

The cost model follows, with its constants and their sources.

Docstrings say what and cite the source; which tensors an op makes and saves is taken from its code, so the
two cannot drift apart unseen. Nothing is imported: the files are read.

    python docs/formulas.py --check     is FORMULAS.md what the simulator says?
    python docs/formulas.py --update    write it
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIMULATOR = ROOT / "memplan" / "simulator"
COST = ROOT / "memplan" / "levers" / "cost"
FORMULAS = ROOT / "FORMULAS.md"

SECTIONS = {
    "Tensors, strides, autograd": (
        "tensor",
        "layout",
        "autograd",
        "checkpoint",
        "offload",
    ),
    "Elementwise ops and reductions": ("ops", "sums", "inplace", "clamp", "rounding", "activations"),
    "Shapes and lookups": ("shapes", "splits", "indexing", "picks", "interleaved", "masks"),
    "Matrix products": ("matmul", "conv1d", "quantization", "int8"),
    "Attention": ("attention", "eager", "fused", "sinks", "kernels", "cache"),
    "Norms and blocks": ("norms", "blocks", "adapters", "dora", "experts", "parameter_adapters"),
    "Losses": ("loss", "classification", "chunked_loss", "fused_loss"),
    "Optimizers": ("optimizer", "optimizers"),
    "The run": ("loading", "step", "generation"),
    "The caching allocator": ("allocator", "expandable", "collector", "replay"),
}
"""The order of modules and packages; what is not named here comes last, so that nothing is left out."""

TIMES = (
    *("__init__", "rates", "products", "kernels", "loss", "update", "offload", "sharding"),
    *("training", "generation"),
)
"""Modules of the cost model, in its order."""

HEADER = """# Formulas

What the simulator knows of PyTorch and the libraries above it: for every op the tensors it makes, what it
saves for backward, and what backward makes in turn. Written by `make formulas` from `memplan/simulator`;
`make lint` checks it.

*makes* lists results and temporaries in order, by the names they have in `memplan explain`; an op made of
others lists only what it makes itself, in every case it knows. *saves* is what the graph keeps until the op's
backward has run.
"""

MAKERS = ("empty", "like", "pair")
"""Functions of the simulator that allocate a tensor; the text among their arguments is its name."""

Definition = ast.FunctionDef | ast.ClassDef
Functions = dict[str, ast.FunctionDef]
Names = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a function does to memory."""

    makes: tuple[str, ...] = ()
    saves: tuple[str, ...] = ()
    backward: tuple[str, ...] = ()

    def with_made(self, names: Sequence[str]) -> Effects:
        """And then makes tensors."""
        return replace(self, makes=(*self.makes, *names))

    def with_saved(self, names: Sequence[str]) -> Effects:
        """And then saves tensors."""
        return replace(self, saves=tuple(dict.fromkeys((*self.saves, *names))))

    def with_backward(self, names: Sequence[str]) -> Effects:
        """And has a backward that makes tensors."""
        return replace(self, backward=(*self.backward, *names))

    def then(self, other: Effects) -> Effects:
        """One after the other."""
        return self.with_made(other.makes).with_saved(other.saves).with_backward(other.backward)


def document() -> str:
    """FORMULAS.md as it should be."""
    listed = [name for names in SECTIONS.values() for name in names]
    found = sorted(path.stem for path in SIMULATOR.iterdir() if path.stem not in ("__init__", "__pycache__"))
    rest = tuple(name for name in found if name not in listed)
    sections = SECTIONS | ({"Further modules": rest} if rest else {})
    parts = [HEADER]
    for title, names in sections.items():
        present = [name for name in names if name in found]
        if present:
            parts.append(f"\n## {title}\n")
            parts += [part for name in present for module in _modules(name) for part in _module(module)]
    parts.append("\n## How long a step takes\n")
    parts += [part for name in TIMES for part in _timed(COST / f"{name}.py")]
    return "".join(parts)


def main(arguments: list[str]) -> int:
    """Check or update; the exit code."""
    if arguments == ["--update"]:
        FORMULAS.write_text(document(), encoding="utf-8")
        return 0
    if arguments != ["--check"]:
        print("usage: python docs/formulas.py --check | --update", file=sys.stderr)
        return 2
    if FORMULAS.is_file() and FORMULAS.read_text(encoding="utf-8") == document():
        return 0
    print("FORMULAS.md is not what the simulator says: run make formulas", file=sys.stderr)
    return 1


def _modules(name: str) -> list[Path]:
    folder = SIMULATOR / name
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def _module(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(SIMULATOR).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
    yield f"\n### {name}\n\n"
    yield _prose(tree)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if not isinstance(node, Definition) or node.name.startswith("_") or not ast.get_docstring(node):
            continue
        yield f"\n**`{_signature(node)}`** — {_prose(node).lstrip()}"
        if isinstance(node, ast.FunctionDef):
            yield _listed(_effects(node, functions))


def _timed(path: Path) -> Iterator[str]:
    """A module of the cost model: its prose, and what its constants stand for."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    yield f"\n### cost{'' if path.stem == '__init__' else f'.{path.stem}'}\n\n{_prose(tree)}"
    for node, after in pairwise(tree.body):
        said = after.value if isinstance(node, ast.Assign) and isinstance(after, ast.Expr) else None
        if isinstance(node, ast.Assign) and isinstance(said, ast.Constant) and isinstance(said.value, str):
            prose = cleandoc(said.value).replace("``", "`")
            yield f"\n**`{ast.get_source_segment(text, node)}`** — {prose}\n"


def _signature(node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return node.name
    arguments = [item.arg for item in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"{node.name}({', '.join(arguments)})"


def _prose(node: ast.Module | Definition) -> str:
    """A docstring as Markdown: names between double backticks are code there too."""
    return cleandoc(ast.get_docstring(node) or "").replace("``", "`") + "\n"


def _listed(effects: Effects) -> str:
    lines = [
        f"- {word}: {', '.join(f'`{name}`' for name in names)}\n"
        for word, names in (
            ("makes", effects.makes),
            ("saves", effects.saves),
            ("backward makes", effects.backward),
        )
        if names
    ]
    return "\n" + "".join(lines) if lines else ""


def _effects(node: ast.FunctionDef, functions: Functions, names: Names | None = None) -> Effects:
    """What a function and the private ones it calls do; ``names`` are texts its parameters stand for."""
    names = names or {}
    known = functions | {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    found = Effects()
    for call in _calls(node):
        called = _called(call)
        if called in MAKERS:
            found = found.with_made(_texts(call.args, names)[-1:])
        elif called == "save":
            found = found.with_saved([ast.unparse(item) for item in call.args[1:]])
        elif called == "begin" and isinstance(call.args[0], ast.Name) and call.args[0].id in known:
            found = found.with_backward(_effects(known[call.args[0].id], functions).makes)
        elif isinstance(call.func, ast.Name) and called.startswith("_") and called in known:
            inner = known[called]
            given = zip((item.arg for item in inner.args.args), call.args, strict=False)
            bound = {name: text for name, item in given for text in _texts([item], names)}
            found = found.then(_effects(inner, functions, bound))
    return found


def _calls(node: ast.FunctionDef) -> Iterator[ast.Call]:
    """Calls in a function in the order they are made, without those of the functions within it."""
    for child in node.body:
        yield from _made_by(child)


def _made_by(node: ast.AST) -> Iterator[ast.Call]:
    if isinstance(node, ast.FunctionDef):
        return
    for child in ast.iter_child_nodes(node):
        yield from _made_by(child)
    if isinstance(node, ast.Call):
        yield node


def _texts(arguments: Sequence[ast.expr], names: Names) -> list[str]:
    """Texts among arguments, spelled out or by a parameter's name."""
    found = []
    for item in arguments:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            found.append(item.value)
        elif isinstance(item, ast.Name) and item.id in names:
            found.append(names[item.id])
    return found


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
