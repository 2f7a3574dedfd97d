"""Chat templates of real models: our token ids beside those of transformers.

    python bench/templates.py                 all of them; exit code 1 if any differ
    python bench/templates.py --only Qwen3    templates with this in their name
    python bench/templates.py --show          what is trained of each answer, and what is noted

The templates are in two packages of PyPI, which pip downloads into `build/templates`: the source of
llama-cpp-python (llama.cpp's `models/templates`) and axolotl. Nothing of them is installed or run.
Each template gets a tokenizer that knows its special tokens; ours opens the folder that
transformers saved. Compared are the ids of `apply_chat_template(tokenize=True)` and of the row.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from headway.data.examples.chat import RenderError, Template
from headway.data.examples.examples import Example, chat_examples
from headway.data.examples.tokenizer import Tokenizer, load
from headway.data.formats.records import Record, Rejected

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "templates"
PACKAGES = ("llama-cpp-python==0.3.36", "axolotl==0.19.0")
INSIDE = ("/models/templates/", "/chat_templates/templates/")
# Special tokens as templates spell them.
SPECIAL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<\uff5c[^<>\uff5c\s]{1,40}\uff5c>|\[/?[A-Z_]{3,20}\]|</?s>|<(?:start|end)_of_turn>"
    r"|<(?:bos|eos|sop|extra_id_\d)>|<\|?(?:end|eot|im)_?\w{0,20}\|?>"
)
Messages = list[dict[str, Any]]


def say(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def talk(*contents: str, system: str | None = None) -> Messages:
    turns = [say(("user", "assistant")[n % 2], one) for n, one in enumerate(contents)]
    return turns if system is None else [say("system", system), *turns]


def thought(content: str, reasoning: str) -> dict[str, Any]:
    return say("assistant", content, reasoning_content=reasoning, thinking=reasoning)


def call(**arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return say(
        "assistant", "", tool_calls=[{"id": "a1b2c3d4e", "type": "function", "function": function}]
    )


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather, in °C",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "a city"}},
            "required": ["city"],
        },
    },
}
RESULT = say("tool", '{"degrees": 21}', name="weather", tool_call_id="a1b2c3d4e")
CONVERSATIONS: dict[str, tuple[Messages, list[dict[str, Any]] | None]] = {
    "pair": (talk("Hi there", "Hello you"), None),
    "system": (talk("a b", "c", system="Be brief."), None),
    "empty system": (talk("a b", "c", system=""), None),
    "turns": (talk("one?", "1 one", "two?", "2 two", "three?", "3 three"), None),
    "unicode": (talk("café 日本語 😀‍😀", "naı̈ve שלום <b>&amp;</b> ﬁ"), None),  # noqa: RUF001
    "white space": (talk("  a\n\n", "\n\n  b\t\n", "\n", " c d \n\n"), None),
    "tools": (talk("Hi", "Hello"), [WEATHER]),
    "call": (
        [say("user", "weather?"), call(city="Köln"), RESULT, say("assistant", "21 degrees.")],
        [WEATHER],
    ),
    "reasoning": ([say("user", "17*3?"), thought("51", "10*3 + 7*3")], None),
    "reasoning twice": (
        [
            say("user", "17*3?"),
            thought("51", "30 + 21"),
            say("user", "+1?"),
            thought("52", "51 + 1"),
        ],
        None,
    ),
    "long": (talk(*[f"{n}: " + "word " * 40 for n in range(60)]), None),
}


def download() -> None:
    """Fetch the packages, unless they are there."""
    for package in PACKAGES:
        name = package.split("==")[0]
        if any(FOLDER.glob(f"{name.replace('-', '_')}-*")):
            continue
        source = ["--no-binary", name] if name.startswith("llama") else []
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", *source, "-d", str(FOLDER)]
        subprocess.run([*pip, package], check=True, stdout=subprocess.DEVNULL)


def templates() -> Iterator[tuple[str, str]]:
    """Every template with its name: those of the packages, and those of our tests."""
    for archive in sorted(FOLDER.glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if is_template(member.name) else None
                if file:
                    yield Path(member.name).stem, file.read().decode()
    for archive in sorted(FOLDER.glob("*.whl")):
        with zipfile.ZipFile(archive) as wheel:
            for name in filter(is_template, wheel.namelist()):
                yield f"axolotl/{Path(name).stem}", wheel.read(name).decode()
    for path in sorted((ROOT / "tests/data/examples/templates").glob("*.jinja")):
        yield f"tests/{path.stem}", path.read_text()


def is_template(name: str) -> bool:
    return name.endswith(".jinja") and any(part in name for part in INSIDE)


def save_tokenizer(template: str, folder: Path) -> Any:
    """A byte-level tokenizer with the special tokens of a template, saved by transformers."""
    spelled = sorted(set(SPECIAL.findall(template)))
    special = ["<s>", "</s>", *(token for token in spelled if token not in ("<s>", "</s>"))]
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600 + len(special),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([(ROOT / "tests/data/tiny.txt").read_text()], trainer)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>"
    )
    theirs.chat_template = template
    theirs.save_pretrained(folder)
    return theirs


def their_ids(theirs: Any, messages: Messages, tools: Any) -> list[int] | str:
    """Token ids by transformers, or what it raises."""
    try:
        return list(theirs.apply_chat_template(messages, tools=tools, return_dict=False))
    except Exception as error:  # a template is third-party code
        return f"{type(error).__name__}: {error}"[:100]


def our_ids(ours: Tokenizer, template: Template, record: Record) -> list[int] | str:
    """Token ids of the row with everything trained, or why there is none."""
    (made,) = chat_examples([record], ours, template, assistant_only=False)
    if isinstance(made, Example):
        return made.ids.tolist()
    try:  # rejected for what it would teach; its tokens can be compared all the same
        text = template.render(record.messages or (), record.tools)
    except RenderError as error:
        return f"{error.reason}: {error.detail}"[:100]
    return ours.encode([text])[0].tolist()


def trained_parts(made: Example | Rejected, ours: Tokenizer) -> list[str]:
    """The stretches of trained tokens as text, or why the conversation is rejected."""
    if isinstance(made, Rejected):
        return [f"REJECTED {made.reason}: {made.detail}"]
    edges = np.flatnonzero(np.diff([0, *made.trained.astype(int), 0]))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    parts = [repr(ours.decode(made.ids[a:b], special=True)) for a, b in pairs]
    shown = parts if len(parts) < 8 else [*parts[:2], f"... {len(parts)} in all"]
    return [*shown, *(f"NOTE {n} {note}" for note, n in Counter(made.notes).items())]


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--only", default="")
    options.add_argument("--show", action="store_true")
    arguments = options.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    download()
    counts: Counter[str] = Counter()
    for name, source in templates():
        if arguments.only.lower() not in name.lower():
            continue
        folder = FOLDER / "tokenizers" / name
        theirs, ours = save_tokenizer(source, folder), load(folder)
        template = Template(ours)
        counts["templates"] += 1
        for case, (messages, tools) in CONVERSATIONS.items():
            record = Record("f", 1, messages=tuple(messages), tools=tuple(tools) if tools else None)
            expected, found = their_ids(theirs, messages, tools), our_ids(ours, template, record)
            fails = isinstance(expected, str)
            equal = isinstance(found, str) if fails else found == expected
            outcome = "different" if not equal else "fails in both" if fails else "equal"
            counts[outcome] += 1
            if not equal:
                print(f"{name} · {case}: {expected if fails else '...'} / {str(found)[:100]}")
            if arguments.show and not fails:
                (made,) = chat_examples([record], ours, template, assistant_only=True)
                print(f"{name} · {case}", *trained_parts(made, ours), sep="\n    ")
    total = sum(counts.values()) - counts["templates"]
    print(f"{counts['templates']} templates x {len(CONVERSATIONS)} conversations = {total}:")
    print(", ".join(f"{counts[one]} {one}" for one in ("equal", "fails in both", "different")))
    return int(counts["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
