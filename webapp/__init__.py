"""The web side of Inkling: HTTP and the database. It knows no tensors; those are the package `model`'s."""
