"""The mathematics of effects and repair; pure functions and records of tensors."""
