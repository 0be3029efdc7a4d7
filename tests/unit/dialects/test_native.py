"""The native dialect reads strictly: what it does not know or cannot use is an error at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, MemplanError, UnknownNameError
from memplan.domain.workload import (
    Adapter,
    Attention,
    Checkpointing,
    Evaluation,
    Loss,
    Outputs,
    Quantization,
    Task,
)
from memplan.read import read

HEAD = "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}\n"

EVERYTHING = """\
memplan: 1
task: generate
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2,
           num_attention_heads: 4, vocab_size: 100, max_position_embeddings: 256}
precision: {params: fp32, autocast: bf16, gradients: params, optimizer_state: bf16}
batch: {micro: 3, accumulation: 2}
sequence: {length: 128}
optimizer: {name: sgd, implementation: for_loop, set_to_none: false}
adapter: {kind: lora, rank: 16, targets: [q_proj, v_proj], dtype: bf16, dropout: 0.1, prepare_kbit: true}
quantization: {kind: nf4, double: true, compute: fp16}
attention: flash_attention_2
checkpointing: {every: 2}
loss: {chunked: 16}
generate: {prompt: 64, new_tokens: 32, cache: static, logits: last}
world: {data_parallel: 4, sharding: zero3}
framework: {torch: "2.10", transformers: 5.17}
loop: {outputs: kept}
attention_mask: true
evaluation: {batch: 16, kept: 2}
allocator: {expandable_segments: true, roundup_power2_divisions: "[256:1,>:8]"}
target: {gpu: t4, margin: 10%, profile: balanced}
"""

BAD = [
    ("batch: {micro: -1}", "batch.micro: -1 is too small", 3),
    ("batch: {micro: 0}", "batch.micro: 0 is too small", 3),
    ("batch: {micro: 8.0}", "batch.micro: must be a whole number, not 8.0", 3),
    ("batch: {micro: true}", "batch.micro: must be a whole number, not true", 3),
    ("batch: {micro: '8'}", "batch.micro: must be a whole number, not '8'", 3),
    ("batch: {micro: 99999999999999}", "is too large", 3),
    ("batch: {micro: 1e400}", "batch.micro: must be a whole number, not 1e400", 3),
    ("batch: {micro: }", "batch.micro: must be a whole number, not nothing", 3),
    ("batch: 8", "batch: must be a mapping, not 8", 3),
    ("batch: [8]", "batch: must be a mapping, not a list", 3),
    ("batch: {micro: 1, micro: 2}", "batch.micro is given twice", 3),
    ("batch:\n  mirco: 2", "batch.mirco is not a key memplan knows here", 4),
    ("seqence: {length: 1}", "seqence is not a key memplan knows here", 3),
    ("attention: flash", "attention: flash is not one of its values", 3),
    ("checkpointing: {every: -2}", "checkpointing.every: -2 is too small", 3),
    ("checkpointing: {}", "checkpointing: says nothing", 3),
    ("checkpointing: half", "checkpointing: half is not one of its values", 3),
    ("loss: {chunked: 0}", "loss.chunked: 0 is too small", 3),
    ("adapter: {rank: 8, targets: []}", "adapter.targets: names nothing to adapt", 3),
    ("adapter: {rank: 8, targets: [q_proj, q_proj]}", "adapter.targets: names a module twice", 3),
    ("adapter: {dropout: 1.5}", "adapter.dropout: must be a number, not 1.5", 3),
    ("quantization: {double: true}", "quantization: says nothing of the kind", 3),
    ("precision: {params: int3}", "precision.params: 'int3' is not an element type", 3),
    ("optimizer: {set_to_none: 1}", "optimizer.set_to_none: must be true or false, not 1", 3),
    ("framework: {torch: newest}", "framework.torch: must be a version, not newest", 3),
    ("target: {margin: 10}", "target.margin: 10 is no margin", 3),
    ("target: {margin: 500}", "target.margin: 500 is no margin", 3),
    ("target: {margin: 120%}", "target.margin: 120% is no margin", 3),
    ("target: {gpu: 24}", "target.gpu: must be text, not 24", 3),
    ("3: three", "key '3' is not a name", 3),
    ("memplan: 1", "memplan is given twice", 3),
]

BAD_WHOLE = [
    ("memplan: 2\nmodel: {ref: x}\n", "memplan: is a version memplan does not know".partition(": ")[2]),
    ("memplan: 1\n", "says nothing of the model"),
    ("memplan: 1\nmodel: {}\n", "exactly one of config, ref, path"),
    ("memplan: 1\nmodel: {ref: gpt-9, path: x}\n", "gives ref and path"),
    ("memplan: 1\nmodel: {path: ./nowhere}\n", "there is no ./nowhere/config.json"),
    ("memplan: 1\nmodel: {config: [1]}\n", "must be a mapping, not a list"),
]


def native(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_reaches_its_field(tmp_path: Path) -> None:
    reading = read(native(tmp_path, EVERYTHING))
    work = reading.workload
    assert reading.dialect == "native"
    assert isinstance(work.model, Architecture)
    assert work.model.hidden_size == 64
    assert work.task is Task.GENERATE
    assert (work.precision.params, work.precision.autocast) == (Dtype.FP32, Dtype.BF16)
    assert (work.precision.gradients, work.precision.optimizer_state) == (None, Dtype.BF16)
    assert (work.batch.micro, work.batch.accumulation, work.sequence.length) == (3, 2, 128)
    assert (work.optimizer.name, work.optimizer.implementation, work.optimizer.set_to_none) == (
        "sgd",
        "for_loop",
        False,
    )
    assert work.adapter == Adapter(
        rank=16, targets=("q_proj", "v_proj"), dtype=Dtype.BF16, dropout=0.1, prepare_kbit=True
    )
    assert work.quantization == Quantization(kind="nf4", double=True, compute=Dtype.FP16)
    assert work.attention is Attention.FLASH_ATTENTION_2
    assert work.checkpointing == Checkpointing(every=2)
    assert work.loss == Loss(kind="chunked", chunks=16)
    assert (work.generate.prompt, work.generate.new_tokens) == (64, 32)
    assert (work.generate.cache, work.generate.logits) == ("static", "last")
    assert work.evaluation == Evaluation(batch=16, kept=2)
    assert work.allocator.expandable_segments
    assert (work.world.data_parallel, work.world.sharding) == (4, "zero3")
    assert (work.framework.torch, work.framework.transformers) == ("2.10", "5.17")
    assert work.outputs is Outputs.KEPT
    assert work.causal_mask
    assert (reading.gpu, reading.margin, reading.profile) == ("t4", "10%", "balanced")


def test_origins_point_at_what_is_written_and_name_what_is_not(tmp_path: Path) -> None:
    reading = read(native(tmp_path, HEAD + "batch: {micro: 4}\n"))
    written, default = reading.origins["batch.micro"], reading.origins["batch.accumulation"]
    assert written.how == "written"
    assert written.location is not None
    assert (written.location.line, written.location.column) == (3, 16)
    assert (default.how, default.location) == ("default", None)


@pytest.mark.parametrize(("line", "message", "at"), BAD, ids=[line for line, _, _ in BAD])
def test_a_wrong_value_is_an_error_at_its_line(tmp_path: Path, line: str, message: str, at: int) -> None:
    with pytest.raises(MemplanError) as caught:
        read(native(tmp_path, f"{HEAD}{line}\n"))
    assert message in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.line == at


@pytest.mark.parametrize(("text", "message"), BAD_WHOLE)
def test_a_wrong_file_is_an_error_that_says_what_belongs_there(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(MemplanError) as caught:
        read(native(tmp_path, text))
    assert message in str(caught.value)
    assert caught.value.location is not None


def test_a_misspelt_key_is_offered_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(FieldError) as caught:
        read(native(tmp_path, HEAD + "batch: {mirco: 2}\n"))
    assert caught.value.hint == "did you mean micro?"


def test_an_unknown_model_is_offered_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        read(native(tmp_path, "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1}\n"))
    assert "Llama-3.2-1B" in str(caught.value)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


def test_a_model_directory_is_found_beside_the_config(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,'
        ' "num_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 256}'
    )
    reading = read(native(tmp_path, "memplan: 1\nmodel: {path: ./tiny}\n"))
    assert isinstance(reading.workload.model, Architecture)
    assert reading.workload.model.vocab_size == 100
    assert sorted(Path(name).name for name in reading.files) == ["config.json", "run.yml"]


def test_a_field_without_a_key_becomes_advice(tmp_path: Path) -> None:
    reading = read(native(tmp_path, HEAD))
    written, advice = edits(reading, [("model.hidden_size", 2048, 1024), ("nonsense", 1, 2)])
    assert written == ()
    assert [item.field for item in advice] == ["model.hidden_size", "nonsense"]


def test_a_block_list_is_not_rewritten_in_place(tmp_path: Path) -> None:
    text = HEAD + "adapter:\n  rank: 8\n  targets:\n    - q_proj\n    - v_proj\n"
    reading = read(native(tmp_path, text))
    adapter = reading.workload.adapter
    assert adapter is not None
    written, advice = edits(reading, [("adapter", adapter, None)])
    assert written == ()
    assert "several lines" in advice[0].message
    assert advice[0].line == 4


ALLOCATORS = [
    ("allocator: none", AllocatorOptions()),
    ("allocator: 'expandable_segments:True'", AllocatorOptions(expandable_segments=True)),
    ("allocator: {max_split_size_mb: 64}", AllocatorOptions(max_split_size_mb=64)),
    ("allocator: {roundup_power2_divisions: 8}", AllocatorOptions(roundup_power2_divisions=(8,) * 16)),
]


@pytest.mark.parametrize(("line", "options"), ALLOCATORS)
def test_the_allocator_is_given_by_its_variable_or_option_by_option(
    line: str, options: AllocatorOptions, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(HEAD + line + "\n", encoding="utf-8")
    reading = read(path)
    assert reading.workload.allocator == options
    written, advice = edits(reading, [("allocator", options, AllocatorOptions(expandable_segments=True))])
    assert advice == ()
    assert options == AllocatorOptions(expandable_segments=True) or len(written) == 1


def test_an_allocator_option_that_is_not_simulated_is_an_error_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(HEAD + "allocator: 'backend:cudaMallocAsync'\n", encoding="utf-8")
    with pytest.raises(FieldError, match="'backend' is no option that is simulated") as caught:
        read(path)
    assert caught.value.location is not None
    assert caught.value.location.line == 3
