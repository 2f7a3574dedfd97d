"""An export for Ollama: the compared file, and a Modelfile that names it and its ends."""

from pathlib import Path

import pytest
from tests.export.models import model_folder, source_of, trained_tokenizer
from tests.export.ollama.stand_in import stand_in

from headway.base.errors import UsageError
from headway.base.pulse import Pulse
from headway.export.export import export
from headway.export.request import ExportOptions, ExportRequest
from headway.export.targets.ollama import OllamaTarget


def written(tmp_path: Path, *, chat: bool = True, **options: object) -> str:
    folder = model_folder(tmp_path / "model", tokenizer=trained_tokenizer(chat=chat))
    source = source_of(folder, tmp_path / "scratch")
    given = ExportOptions("ollama", name="mill", **options)  # type: ignore[arg-type]
    target = OllamaTarget()
    assert target.num_bytes(source, given) > 0
    found = target.write(source, given, tmp_path, Pulse())
    assert found.files == (f"mill-{given.quantize}.gguf", "Modelfile")
    assert (tmp_path / found.files[0]).read_bytes()[:4] == b"GGUF"
    return (tmp_path / "Modelfile").read_text()


def test_a_chat_model(tmp_path: Path) -> None:
    assert written(tmp_path, quantize="q8_0", system="Be kind.", num_ctx=256) == (
        "FROM ./mill-q8_0.gguf\n"
        'SYSTEM "Be kind."\n'
        "PARAMETER num_ctx 256\n"
        'PARAMETER stop "<|im_end|>"\n'
    )


def test_a_text_model(tmp_path: Path) -> None:
    assert 'TEMPLATE "{{ .Prompt }}"' in written(tmp_path, chat=False)


@pytest.mark.parametrize("options", [{"name": "my model"}, {"num_ctx": 9999}])
def test_what_ollama_would_not_take_is_refused_first(
    options: dict[str, object], tmp_path: Path
) -> None:
    source = source_of(model_folder(tmp_path / "model"), tmp_path / "scratch")
    given = ExportOptions("ollama", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        OllamaTarget().num_bytes(source, given)
    assert caught.value.remedies


def test_the_finished_folder_is_taken_to_ollama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model")
    options = ExportOptions("ollama", name="mill", verify="never")
    request = ExportRequest(str(folder), str(tmp_path / "out"), options)
    with stand_in() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        result = export(request, Pulse())
        assert server.models["mill"]["parameters"]["stop"] == ["<|im_end|>"]
        (blob,) = server.blobs.values()
    assert blob == (tmp_path / "out" / "mill-f16.gguf").read_bytes()
    assert result.findings[-1].what == "mill is in Ollama 0.33.2, and answers"
    again = export(request, Pulse())  # nothing answers there any more
    assert [one.do for one in again.findings[-1].remedies] == [
        f"ollama create mill -f {tmp_path / 'out' / 'Modelfile'}",
        "ollama run mill",
    ]
