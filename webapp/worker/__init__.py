"""The worker and its child processes, which train, compute artifacts of versions, check labels and import digits.

Imports training, versions, corrections, storage and, inside its child processes alone, the rooms of `model` with torch.
Never imports views, nor they it.
"""
