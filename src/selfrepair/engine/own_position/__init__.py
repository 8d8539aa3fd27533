"""Ablation at one's own position only: for each token, the head is ablated at the position that predicts it."""

from selfrepair.engine.own_position.single_positions import OwnPositionEngine as OwnPositionEngine
