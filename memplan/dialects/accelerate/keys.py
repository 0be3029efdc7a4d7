"""The keys of accelerate's config, which refuses any other."""

from __future__ import annotations

from difflib import get_close_matches

from memplan.dialects.fields import Value

KNOWN = frozenset(
    (
        "compute_environment",
        "distributed_type",
        "mixed_precision",
        "use_cpu",
        "debug",
        "num_processes",
        "machine_rank",
        "num_machines",
        "gpu_ids",
        "main_process_ip",
        "main_process_port",
        "rdzv_backend",
        "same_network",
        "main_training_function",
        "enable_cpu_affinity",
        "fp8_config",
        "deepspeed_config",
        "fsdp_config",
        "parallelism_config",
        "megatron_lm_config",
        "mpirun_config",
        "downcast_bf16",
        "tpu_name",
        "tpu_zone",
        "tpu_use_cluster",
        "tpu_use_sudo",
        "command_file",
        "commands",
        "tpu_vm",
        "tpu_env",
        "dynamo_config",
        "dynamo_backend",
        "fp16",
        "ipex_config",
        "tp_config",
    )
)
"""Fields of ``ClusterConfig``, those that older releases had, and the two that are converted."""

SAGEMAKER = "AMAZON_SAGEMAKER"
KINDS = (
    "NO",
    "MULTI_GPU",
    "MULTI_CPU",
    "MULTI_XPU",
    "MULTI_NPU",
    "MULTI_MLU",
    "MULTI_MUSA",
    "MULTI_SDAA",
    "MULTI_HPU",
    "MULTI_NEURON",
    "DEEPSPEED",
    "FSDP",
    "TP",
    "XLA",
    "TPU",
    "MEGATRON_LM",
)
"""``DistributedType`` in accelerate src/accelerate/utils/dataclasses.py."""


def check(root: Value) -> None:
    """Refuse what accelerate refuses, and clusters that are described in other words.

    Raises:
        FieldError: a key is unknown, or the config is one for SageMaker.
    """
    for name, value in root.entries(repeats=True).items():
        if name not in KNOWN:
            raise value.fail(
                "accelerate has no such key, and refuses to start",
                expected="keys of accelerate's config",
                hint=f"did you mean {close[0]}?" if (close := get_close_matches(name, KNOWN, n=1)) else None,
            )
        if name == "compute_environment" and value.written() == SAGEMAKER:
            raise value.fail("SageMaker's configs are not read", expected="LOCAL_MACHINE")
