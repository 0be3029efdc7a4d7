"""What every framework shares that trains with the Hugging Face Trainer, reading and writing.

A dialect of the family says how it spells the Trainer's arguments (``Arguments``) and adapters
(``LoraKeys``), works out its model itself, and leaves the rest to ``workload`` and ``writers``.
"""

from __future__ import annotations

from memplan.dialects.trainer.adapters import LoraKeys, lora
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trainer.models import named
from memplan.dialects.trainer.precision import weights
from memplan.dialects.trainer.read import Model, reading, workload
from memplan.dialects.trainer.write import writers

__all__ = ["Arguments", "LoraKeys", "Model", "lora", "named", "reading", "weights", "workload", "writers"]
