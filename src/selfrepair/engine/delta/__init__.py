"""The delta engine: differences to the clean run carried through the network, all ablated runs moving up together.

`tape` records what a block computes; `rules` say how differences pass each operation; `program` runs a tape's rules,
eagerly or compiled; `matmul` is where low precision is; `wavefront` moves all ablated runs up, layer by layer.
"""

from selfrepair.engine.delta.engine import DeltaEngine as DeltaEngine
