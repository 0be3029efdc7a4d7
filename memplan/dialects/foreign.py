"""Formats memplan knows by their marks and does not plan: a refusal can then say what helps instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.dialects.reading import Document
from memplan.documents.tree import Item, Language, MappingNode, Node, ScalarNode
from memplan.domain.errors import ForeignFormatError

_SERVING = "how much of a GPU a server takes is its own setting; memplan plans training and generation"
_COMPOSED = "print the whole config (Hydra: `--cfg job --resolve`) and give that"
_NATIVE = "describe the run in memplan's own format (`memplan: 1`): a model, and what a step does with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format, and ``why`` it is not planned.

    It shows in any of ``marks``: dotted keys, all of them there, where ``*`` is any key and ``key=text`` is a
    value that begins so. ``score`` is on the scale of ``Dialect.recognises``.
    """

    name: str
    marks: tuple[tuple[str, ...], ...]
    score: int
    why: str
    hint: str
    language: Language | None = None


FORMATS = (
    Format(
        name="a vLLM recipe",
        marks=(("meta", "compatible_strategies"), ("deploy_type",)),
        score=5,
        why="it lists ways to serve a model",
        hint=_SERVING,
    ),
    Format(
        name="a file of a Helm chart",
        marks=(("servingEngineSpec",), ("routerSpec",), ("suite", "templates", "tests")),
        score=5,
        why="it deploys servers",
        hint=_SERVING,
    ),
    Format(
        name="a Kubernetes manifest",
        marks=(("apiVersion", "kind"),),
        score=5,
        why="what its containers run is in their commands",
        hint="give the config that the command names",
    ),
    Format(
        name="a config of a vLLM server",
        marks=tuple(
            (key,)
            for key in ("max-model-len", "max_model_len", "gpu-memory-utilization", "gpu_memory_utilization")
        ),
        score=3,
        why="it serves a model",
        hint=_SERVING,
    ),
    Format(
        name="a config of an SGLang server",
        marks=(("mem-fraction-static",), ("mem_fraction_static",), ("model-path",)),
        score=3,
        why="it serves a model",
        hint=_SERVING,
    ),
    Format(
        name="a config of text-generation-inference",
        marks=(("max-total-tokens",), ("max-batch-prefill-tokens",)),
        score=3,
        why="it serves a model",
        hint=_SERVING,
    ),
    Format(
        name="a llama-swap config",
        marks=(("models.*.cmd",),),
        score=5,
        why="it starts servers of quantized models",
        hint=_SERVING,
    ),
    Format(
        name="a Modelfile",
        marks=(("from",),),
        score=5,
        why="Ollama serves a quantized model",
        hint=_SERVING,
        language=Language.MODELFILE,
    ),
    Format(
        name="a NeMo Automodel recipe",
        marks=(("step_scheduler", "model"),),
        score=5,
        why="it builds its model, data and optimizer from Python objects by name",
        hint=_NATIVE,
    ),
    Format(
        name="a NeMo RL config",
        marks=(("policy.train_micro_batch_size",),),
        score=5,
        why="several models train and generate on one GPU, which is not simulated",
        hint=_NATIVE,
    ),
    Format(
        name="a NeMo config",
        marks=(("model.micro_batch_size", "trainer"), ("exp_manager",)),
        score=5,
        why="Megatron's model code and its parallel layers are not simulated",
        hint=_NATIVE,
    ),
    Format(
        name="a list of Megatron-LM's arguments",
        marks=(("MODEL_ARGS",), ("--num-layers",), ("num-layers", "micro-batch-size")),
        score=5,
        why="Megatron's model code and its parallel layers are not simulated",
        hint=_NATIVE,
    ),
    Format(
        name="a verl config",
        marks=(("actor_rollout_ref",),),
        score=5,
        why="actor, reference and rollout share the GPU, which is not simulated",
        hint=_NATIVE,
    ),
    Format(
        name="a part of a verl config",
        marks=(("_target_=verl.",),),
        score=5,
        why="the rest of the run is in other files",
        hint=_COMPOSED,
    ),
    Format(
        name="an llm-foundry config",
        marks=(("device_train_microbatch_size",), ("parameters.device_train_microbatch_size",)),
        score=5,
        why="Composer's trainer and MPT's own code are not simulated",
        hint=_NATIVE,
    ),
    Format(
        name="an evaluation by llm-foundry",
        marks=(
            ("icl_tasks",),
            ("eval_gauntlet",),
            ("device_eval_batch_size",),
            ("parameters.icl_tasks",),
            ("parameters.device_eval_batch_size",),
        ),
        score=3,
        why="it trains nothing",
        hint="say how the model is used in memplan's own format, with `task: generate`",
    ),
    Format(
        name="a job for MosaicML's platform",
        marks=(("integrations", "command"),),
        score=2,
        why="what it runs is in its command",
        hint="give the config below `parameters`, in a file of its own",
    ),
    Format(
        name="a nanotron config",
        marks=(("tokens", "parallelism"),),
        score=5,
        why="nanotron's model code and its parallel layers are not simulated",
        hint=_NATIVE,
    ),
    Format(
        name="a torchtitan job",
        marks=(("model.name", "training", "job"),),
        score=2,
        why="of torchtitan's models only decoders of text are simulated",
        hint=_NATIVE,
    ),
    Format(
        name="a GPT-NeoX config",
        marks=(("pipe_parallel_size",), ("pipe-parallel-size",)),
        score=2,
        why="it describes no transformer that memplan simulates",
        hint=_NATIVE,
    ),
    Format(
        name="a Hydra config",
        marks=(("defaults",), ("_target_",), ("*._target_",), ("hydra",)),
        score=1,
        why="the rest of the run is in other files, and nothing here names a language model",
        hint=_COMPOSED,
    ),
)
"""Of several with the same score the first one counts."""


def recognised(document: Document) -> Format | None:
    """The format whose marks a document shows, the most specific one."""
    found = [each for each in FORMATS if _place(document, each) is not None]
    return max(found, key=lambda each: each.score, default=None)


def refusal(document: Document, found: Format) -> ForeignFormatError:
    """Why a document in that format is not planned, at the key that shows it."""
    item = _place(document, found)
    return ForeignFormatError(
        f"{document.source.path} is {found.name}, which memplan does not plan: {found.why}",
        location=None if item is None else document.source.location(item.key.span),
        expected="a training config",
        hint=found.hint,
    )


def _place(document: Document, each: Format) -> Item | None:
    """The first key of the first mark that is there whole."""
    root = document.root
    if not isinstance(root, MappingNode) or each.language not in (None, root.language):
        return None
    for mark in each.marks:
        items = [next(_items(root, key), None) for key in mark]
        if None not in items:
            return items[0]
    return None


def _items(node: Node, mark: str) -> Iterator[Item]:
    """Every item at a dotted key."""
    key, _, starts = mark.partition("=")
    name, _, rest = key.partition(".")
    for item in node.items if isinstance(node, MappingNode) else ():
        if name not in ("*", item.key.value):
            continue
        if rest:
            yield from _items(item.value, rest)
        elif not starts or (isinstance(item.value, ScalarNode) and item.value.text.startswith(starts)):
            yield item
