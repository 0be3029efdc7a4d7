"""What the names of components mean, in one sentence each."""

from __future__ import annotations

COMPONENTS = {
    "embeddings": "The token embedding matrix, vocabulary × hidden size; a tied LM head shares it.",
    "decoder_matrix": "The LM head: the matrix that turns hidden states into one logit per vocabulary entry.",
    "blocks": "The weights of the transformer blocks and the final norm.",
    "adapter": "The weights of the low-rank adapters that are trained instead of the model.",
    "gradients": "One gradient per trained parameter, alive from backward to the optimizer step or longer.",
    "optimizer_state": "What the optimizer remembers per trained parameter: two moments for AdamW.",
    "kv_cache": "Keys and values of earlier tokens, kept during generation; nothing in training.",
    "activations": "Tensors of the forward pass that backward needs; they grow with micro-batch × sequence.",
    "logits_and_loss": "Logits over the vocabulary and the tensors of the loss: tokens × vocabulary each.",
    "temporaries": "Tensors alive only within an operation that runs at the peak.",
    "flat_parameters": "Parameters of all kinds in one buffer, as DeepSpeed lays them out.",
    "communication": "Buffers that GPUs exchange gradients and parameters through.",
    "rounding": "What the allocator adds to reach multiples of 512 bytes.",
    "workspace": "Scratch memory that libraries such as cuBLAS hold for their kernels.",
}

HOST = {
    "libraries": "The interpreter with torch and transformers imported; as measured on a GPU, with CUDA.",
    "cuda_runtime": "What CUDA and its libraries keep in host memory once a GPU is in use.",
    "weights_in_loading": "Weights in RAM on their way to the GPU; files that are only mapped do not count.",
    "loader_workers": "DataLoader worker processes with what they have written to of their own.",
    "batches": "Batches that loader workers have under way.",
    "pinned_batches": "Page-locked copies of batches, in blocks of a power of two.",
    "offloaded_activations": "Activations that wait in page-locked memory, in blocks of a power of two.",
    "paged_optimizer_states": "Optimizer states in unified memory: in RAM when the GPU has no room for them.",
    "offloaded_optimizer": "Optimizer states, fp32 parameters and gradients that DeepSpeed keeps in RAM.",
    "offloaded_parameters": "Parameters that DeepSpeed keeps in RAM.",
    "checkpoint_in_saving": "Copies of the weights of one file, or of one optimizer state.",
    "evaluation_logits": "Logits of evaluation batches that metrics are computed from.",
}

CONTEXT = "CUDA context: the driver's state and the loaded kernels, outside PyTorch's allocator."
MAPPED = "the kernel keeps them in its page cache and takes them back when memory runs short."
CACHED = "Reserved by PyTorch's caching allocator from the driver but not handed out at the peak."


def meaning(component: str) -> str | None:
    """The sentence for a component; None for a name somebody declared."""
    return COMPONENTS.get(component)
