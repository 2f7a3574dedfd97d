"""Every token that ends an answer, wherever a model's files say so."""

from pathlib import Path

import pytest
from tests.export.folders import DOCUMENT_END, TURN_END, change, model_folder

from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.chatml import CHATML
from headway.export.reading.end_tokens import end_ids_of, id_behind_answer

BROKEN = "{{ raise_exception('no') }}"
TWICE = CHATML.replace("'<|im_end|>'", "'<|im_end|><|endoftext|>'")


def ends(folder: Path) -> tuple[int, ...]:
    return end_ids_of((folder,), tokenizers.load(folder))


@pytest.mark.parametrize(
    ("generation", "config"),
    [
        (TURN_END, TURN_END),
        (DOCUMENT_END, DOCUMENT_END),  # the template alone writes the other one
        (None, DOCUMENT_END),
        (DOCUMENT_END, None),
        ([DOCUMENT_END, 5000], None),  # no token has that id
    ],
)
def test_t07_the_end_that_the_template_writes_is_among_them(
    tmp_path: Path, generation: object, config: object
) -> None:
    folder = model_folder(tmp_path / "model")
    change(folder / "generation_config.json", eos_token_id=generation)
    change(folder / "config.json", eos_token_id=config)
    assert TURN_END in ends(folder)
    assert set(ends(folder)) <= {TURN_END, DOCUMENT_END}


def test_a_model_without_a_template_ends_where_its_text_does(tmp_path: Path) -> None:
    assert ends(model_folder(tmp_path / "model", chat=False)) == (DOCUMENT_END,)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, TURN_END),
        (TWICE, TURN_END),
        (BROKEN, None),
        ("{{ messages[-1].content }}", None),  # no end at all
        ("{{ messages[-1].content }} and so on {{ '<|im_end|>' }}", None),  # not behind the answer
        ("{% if %}", None),
    ],
)
def test_only_what_stands_right_behind_an_answer_ends_it(
    tmp_path: Path, template: str, expected: int | None
) -> None:
    folder = model_folder(tmp_path / "model")
    assert id_behind_answer(tokenizers.load(folder).with_template(template)) == expected
