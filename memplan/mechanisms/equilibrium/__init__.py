"""Equilibrium propagation whose working memory does not grow with depth.

A network of layers has a state for every layer, and an energy: half the squared difference between each state
and what its layer predicts from the state below. Learning settles the states with the output nudged towards
the target, and then moves every weight against its own energy gradient (Scellier & Bengio 2017, "Equilibrium
Propagation", in the layered form with prediction errors of Whittington & Bogacz 2017). All gradients are
written out by hand and walk through the layers one at a time: beside weights, states and momentum, three
tensors of the size of one state exist, whether there are ten layers or ten thousand.

    network = Network.dense((16, 64, 64, 4), seed=1)
    states = network.forward(x)                                  # the free phase: energy zero
    settle(network, x, states, target=y, beta=0.1, steps=30)     # the nudged phase
    learn(network, x, states, beta=0.1, rate=0.05)               # the contrast, layer by layer

What does grow with depth are the weights, one state per layer, and as much again for momentum. Shapes: B is
the batch, N a layer's width; states are (B, N) or, of convolutions, (B, C, H, W). ``reference`` has the same
with autograd's graphs, backpropagation, and backpropagation with checkpoints, to compare with.
"""

from __future__ import annotations

from memplan.mechanisms.equilibrium.activation import Activation
from memplan.mechanisms.equilibrium.contrast import gradients, learn
from memplan.mechanisms.equilibrium.energy import energy
from memplan.mechanisms.equilibrium.layers import Convolution, Dense, Gradient, Layer
from memplan.mechanisms.equilibrium.method import Method, Training, step
from memplan.mechanisms.equilibrium.network import Network, States
from memplan.mechanisms.equilibrium.settling import settle

__all__ = [
    "Activation",
    "Convolution",
    "Dense",
    "Gradient",
    "Layer",
    "Method",
    "Network",
    "States",
    "Training",
    "energy",
    "gradients",
    "learn",
    "settle",
    "step",
]
