"""Everything that knows tensors: imaging, inference, network, data, evaluation, training (no Flask, no database)."""
