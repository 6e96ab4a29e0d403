"""Everything that knows tensors: network, data, training, evaluation, weights (no Flask, no database)."""
