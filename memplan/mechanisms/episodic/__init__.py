"""Episodic memory: a bank of keys and values, written and read by cosine similarity, chunk by chunk."""

from memplan.mechanisms.episodic.bank import Bank as Bank
from memplan.mechanisms.episodic.gate import GatedMemory as GatedMemory
from memplan.mechanisms.episodic.memory import EpisodicMemory as EpisodicMemory
from memplan.mechanisms.episodic.reading import Recalled as Recalled
from memplan.mechanisms.episodic.settings import Settings as Settings
from memplan.mechanisms.episodic.writing import Written as Written
