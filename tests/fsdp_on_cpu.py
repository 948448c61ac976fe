"""Copied to a folder on PYTHONPATH as `sitecustomize.py`, it has accelerate shard models on CPUs too.

As released, accelerate ignores FSDP there. This adds one entry to the list of distributed types for which
`AcceleratorState` reads the FSDP plugin.
"""

import sys
from importlib.machinery import PathFinder, SourceFileLoader

LIST = b"elif self.distributed_type in [\n                DistributedType.MULTI_GPU,"


class Patched(SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_data(self.path)
        assert source.count(LIST) == 1, "another accelerate: find where it reads the FSDP plugin"
        return self.source_to_code(source.replace(LIST, LIST + b" DistributedType.MULTI_CPU,"), self.path)


class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name != "accelerate.state":
            return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = Patched(name, spec.origin)
        return spec


sys.meta_path.insert(0, Finder)
