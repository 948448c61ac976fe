"""Proves on a real vLLM server that an interrupted distillation is the whole one, drawn at random or not.

Run: make test-vllm, or in an environment with vLLM: python -m pytest tests/with_vllm
"""

from servers import free_port, start
from test_server_teacher import PROBLEMS, survives_both_deaths, teachers

from thinkless.distillation.pairs import distill
from thinkless.generation import ServerGenerator
from with_vllm import ENVIRONMENT, needs_vllm

pytestmark = needs_vllm


def test_an_interrupted_distillation_draws_what_a_whole_one_draws(saved, tmp_path):
    folder = saved("qwen2, untied").folder
    port = free_port()
    command = ["vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "256", "--kv-cache-memory-bytes", str(64 << 20)]
    servers = []

    def start_server():
        servers.append(start(command, port, tmp_path / "server.log", **ENVIRONMENT))
        return servers[-1]

    settings = {"max_tokens": 200, "temperature": 1.0, "top_p": 0.95, "seed": 5}
    url = f"http://127.0.0.1:{port}/v1"
    pairs = survives_both_deaths(start_server, url, "tiny", tmp_path, settings)
    server = start_server()
    try:
        generator = ServerGenerator(url, "tiny", extensions=False, in_flight=16)
        assert list(distill(PROBLEMS, teachers(generator), **settings)) == list(pairs)
    finally:
        server.kill()
        server.wait()
