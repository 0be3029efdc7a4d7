"""Real runs on a CUDA GPU: measured by PyTorch's own counters, capped like a smaller card if asked.

``driver`` is the only module that calls ``torch.cuda`` and the NVIDIA driver; all others see it through a
protocol of a dozen methods, which tests implement without a GPU. ``settings`` comes before torch is imported.
"""
