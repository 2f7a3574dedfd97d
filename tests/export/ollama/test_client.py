"""Ollama's address, by its own rules."""

import pytest

from headway.export.ollama.client import server_address


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        (":5000", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("gpu.example", "http://gpu.example:11434"),
        ("http://gpu.example", "http://gpu.example:80"),
        ("https://gpu.example", "https://gpu.example:443"),
        ("https://gpu.example:8443", "https://gpu.example:8443"),
        ("[::1]:5000", "http://[::1]:5000"),
        ('"127.0.0.1:5000"', "http://127.0.0.1:5000"),
    ],
)
def test_the_address(variable: str, address: str) -> None:
    assert server_address(variable) == address
