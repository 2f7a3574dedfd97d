"""PyTorch's side: log-probabilities at positions, and how texts and chats begin."""

import json

import pytest
import torch
from tests.export.models import model_folder, trained_tokenizer

from headway.data.examples.tokenizer import DOCUMENT_END, Tokenizer
from headway.export.verify.reference import Reference
from headway.model.load import from_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    folder = model_folder(tmp_path_factory.mktemp("model") / "model")
    return from_folder(folder, trust_remote_code=False).eval()


def with_bos() -> Tokenizer:
    words = trained_tokenizer()
    config = json.loads(words.files["tokenizer_config.json"])
    config |= {"bos_token": DOCUMENT_END, "add_bos_token": True}
    files = words.files | {"tokenizer_config.json": json.dumps(config).encode()}
    return Tokenizer(files, "with bos")


def test_log_probabilities_are_those_of_what_follows(model: torch.nn.Module) -> None:
    reference = Reference(model, trained_tokenizer(), begins=False)
    ids = list(range(10, 30))
    found = reference.log_probabilities(ids, 15)
    assert found.shape == (5, reference.tokenizer.vocab_size)
    with torch.no_grad():
        last = model(torch.tensor([ids[:18]])).logits[0, -1]
    assert torch.allclose(found[2], torch.log_softmax(last, -1), atol=1e-5)
    assert torch.allclose(found.exp().sum(-1), torch.ones(5), atol=1e-5)


def test_the_bos_token_is_where_llama_cpp_puts_it(model: torch.nn.Module) -> None:
    words = with_bos()
    bos = words.bos_id
    assert Reference(model, words, begins=True).text_ids("a")[0] == bos
    assert Reference(model, words, begins=False).text_ids("a")[0] != bos
    assert Reference(model, words, begins=True).without_bos(f"{DOCUMENT_END}a") == "a"
    assert Reference(model, words, begins=False).without_bos(f"{DOCUMENT_END}a") != "a"


def test_a_conversation_that_the_template_does_not_take(model: torch.nn.Module) -> None:
    words = trained_tokenizer()
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}a"
    reference = Reference(model, words.with_template(strict), begins=False)
    question = {"role": "user", "content": "a"}
    assert reference.render([question]) == "a"
    assert reference.render([{"role": "system", "content": "b"}, question]) is None
    plain = Reference(model, trained_tokenizer(chat=False), begins=False)
    assert plain.render([question]) is None
