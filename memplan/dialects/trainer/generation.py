"""Generation through transformers, by the frameworks that also train with the Trainer."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.table import Setting, settle
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trainer.attention import attention
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.host import HostUse
from memplan.domain.workload import Batch, Generate, Precision, Task, Workload


def generation(
    keys: Keys, arguments: Arguments, shape: Architecture, params: Dtype, new: Setting, rows: int = 1
) -> Workload:
    """``rows`` prompts at a time, of a length that is assumed; ``new`` says where that of answers stands.

    Raises:
        FieldError: a value has the wrong type or range.
    """
    tokens = settle(keys, (new,))[new.field]
    prompt = Generate().prompt
    keys.origins["generate.prompt"] = Origin(how="assumed", note=f"nothing says how long; {prompt} counted")
    keys.warnings.append(
        f"{keys.root.source.path}: prompts of {prompt} tokens are counted; give others with "
        "--set generate.prompt=N"
    )
    return Workload(
        model=shape,
        task=Task.GENERATE,
        precision=Precision(params=params),
        batch=Batch(micro=rows),
        attention=attention(keys, arguments),
        generate=Generate(prompt=prompt, new_tokens=tokens),
        host=HostUse(loading="direct"),
    )
