"""The first process of a worker: keeps one runner serving."""
