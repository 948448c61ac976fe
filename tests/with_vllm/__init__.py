"""Tests on the real vLLM engine. `make test-vllm` runs them in an environment of their own.

Elsewhere they are skipped. On a CPU the engine runs as float32, eagerly and on one thread, which is what
makes it comparable with Transformers to a few 1e-6.
"""

import os
from importlib.util import find_spec

import pytest

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vLLM is not installed: `make test-vllm` brings it"
)

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TORCHDYNAMO_DISABLE": "1",  # even an eager engine compiles its sampler, and would need g++
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; for TRL, which cannot ask for less
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # or all engines of a machine are pinned to its first core
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: TRL and the weight updates need it
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Read by vLLM when it is imported, so set before."""

if find_spec("vllm") is not None:
    os.environ.update(ENVIRONMENT)
