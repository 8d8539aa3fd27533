"""Ablation at one's own position only: for each token, the head is ablated at the position that predicts it."""

from selfrepair.engine.own_position.engine import OwnPositionEngine as OwnPositionEngine
