"""Runs of the real libraries, to hold the simulator against: the only package that knows torch.

``trace`` runs transformers' and PEFT's classes on tensors without bytes and notes what they allocate.
"""
