"""Problem sets: each is a `datasets.Dataset` with columns `prompt`, `answer`, `level`."""
