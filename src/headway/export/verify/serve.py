"""llama.cpp's server with a GGUF file, in a process of its own: what it cannot load may end it.

    python -m headway.export.verify.serve FILE CONTEXT THREADS

Prints where it listens as a line of JSON, and ends when its standard input does.
"""

import importlib
import os
import secrets
import sys
from dataclasses import dataclass
from typing import Any

import msgspec

from headway.base.host.child_main import end_with_parent, run_child


@dataclass(frozen=True)
class Listening:
    """Where the server is.

    Attributes:
        address: as http://127.0.0.1:PORT.
        key: that its requests need.
        build: of the package.
    """

    address: str
    key: str
    build: str


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    end_with_parent()
    path, context, threads = arguments[0], int(arguments[1]), int(arguments[2])
    answers = os.dup(1)
    os.dup2(2, 1)  # llama.cpp may write to standard output
    xllamacpp: Any = importlib.import_module("xllamacpp")  # it has no types
    key = secrets.token_hex(16)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.warmup = False
    params.verbosity = 3
    params.ui = False
    params.cache_ram_mib = 0
    params.swa_full = True  # so that the same beginning is computed once
    params.api_keys = [key]
    # As precise as it can compute: what is compared are the weights.
    precise = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_k = params.cache_type_v = precise
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    listening = Listening(server.listening_address, key, xllamacpp.__version__)
    os.write(answers, msgspec.json.encode(listening) + b"\n")
    sys.stdin.read()
    os._exit(0)  # without waiting for requests that nobody reads


if __name__ == "__main__":
    sys.exit(run_child(main))
