"""Odd and hostile model folders: a small real one with one thing changed."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

HUGE = 1 << 62
CHATS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
] * 16
# What any value of a JSON file may be replaced by.
VALUES: tuple[Any, ...] = (
    *(None, True, False, "many", "", [], {}, [1, 2], {"a": 1}, ["a"], [[["a"]]], "\x00", "\udc80"),
    *(-1, 0, 1, 2, 0.5, -0.5, 1e30, 1e308, HUGE, -HUGE, 10**30, 7, 100, 10**6, 10**9, float("nan")),
)
LOOP = "{% for x in range(99999) %}{% for y in range(99999) %}{% for z in range(99999) %}"
TEMPLATES = {
    "multiplies a string": "{{ 'a' * 10000000000 }}",
    "multiplies a list": "{{ [1] * 10000000000 }}",
    "pads a string": "{{ 'a' | center(10000000000) }}",
    "formats a width": "{{ '%10000000000d' % 1 }}",
    "formats a width by method": "{{ '{:10000000000}'.format(1) }}",
    "doubles a string": "{% set n = namespace(t='a') %}{% for i in range(60) %}"
    "{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "doubles a list": "{% set n = namespace(t=[1]) %}{% for i in range(60) %}"
    "{% set n.t = n.t + n.t %}{% endfor %}{{ n.t }}",
    "indents by much": "{{ 'a\na' | indent(10000000000) }}",
    "never ends": LOOP + "{% endfor %}" * 3,
    "never ends in lists": "{% set a = range(9999) | list %}"
    + "{% for x in a %}" * 4
    + "{% endfor %}" * 4,
    "never ends in macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
    "{% endmacro %}{{ f(60) }}",
    "a power": "{{ 10 ** 10 ** 10 }}",
    "powers of powers": "{% set n = namespace(t=3) %}{% for i in range(60) %}"
    "{% set n.t = n.t * n.t %}{% endfor %}{{ n.t > 1 }}",
    "calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "nested deeply": "{% if true %}" * 3000 + "a" + "{% endif %}" * 3000,
    "parentheses nested deeply": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "lists nested deeply": "{{ " + "[" * 300 + "1" + "]" * 300 + " }}",
    "a sum of many": "{{ " + "1 + " * 20000 + "1 }}",
    "filters in a row": "{{ 'a'" + " | upper" * 5000 + " }}",
    "not closed": "{% if true %}",
    "an unknown filter": "{{ messages | nothing }}",
    "an unknown name": "{{ nothing.at.all }}",
    "division by zero": "{{ 1 / 0 }}",
    "reaches for a class": "{{ ''.__class__.__mro__ }}",
    "includes a file": "{% include '/etc/passwd' %}",
    "imports": "{% import 'os' as os %}",
    "empty": "",
    "blank": "   ",
    "nul": "a\x00{{ messages[0].content }}",
}
EMPTY_WORDS = {"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file; `change` may change the value in place."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    changed = change(value)
    path.write_text(json.dumps(value if changed is None else changed))


def put(name: str, **values: Any) -> Callable[[Path], None]:
    """A change of some values in a JSON file."""
    return lambda folder: edit(folder / name, lambda value: value.update(values))


def write(name: str, data: bytes) -> Callable[[Path], None]:
    """A change of a file."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return change


def template(text: str) -> Callable[[Path], None]:
    """A change of the chat template."""
    return write("chat_template.jinja", text.encode(errors="surrogatepass"))


def header(tensors: dict[str, Any], length: int | None = None) -> Callable[[Path], None]:
    """A change of the weights: a header of one's own, without data."""
    text = json.dumps(tensors).encode()
    return write("model.safetensors", struct.pack("<Q", length or len(text)) + text)


def tensor(shape: list[int], dtype: str = "F32", at: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": list(at)}}


def quantized(method: str, **more: Any) -> Callable[[Path], None]:
    """A folder that a quantizer wrote."""
    return put("config.json", quantization_config={"quant_method": method, **more})


def cut(name: str, share: float) -> Callable[[Path], None]:
    """A file that ends early."""

    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def words(**changes: Any) -> Callable[[Path], None]:
    """A change of the model in tokenizer.json."""
    return lambda folder: edit(
        folder / "tokenizer.json", lambda value: value["model"].update(changes)
    )


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    """Several changes, one after the other."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


CONFIG = {
    "layers a word": put("config.json", num_hidden_layers="many"),
    "layers negative": put("config.json", num_hidden_layers=-1),
    "layers none": put("config.json", num_hidden_layers=0),
    "layers fewer than stored": put("config.json", num_hidden_layers=1),
    "layers more than stored": put("config.json", num_hidden_layers=3),
    "layers a billion": put("config.json", num_hidden_layers=10**9),
    "width a list": put("config.json", hidden_size=[16]),
    "width huge": put("config.json", hidden_size=HUGE),
    "width zero": put("config.json", hidden_size=0),
    "heads zero": put("config.json", num_attention_heads=0),
    "heads negative": put("config.json", num_attention_heads=-2),
    "heads that do not divide": put("config.json", num_attention_heads=3, num_key_value_heads=2),
    "intermediate null": put("config.json", intermediate_size=None),
    "intermediate huge": put("config.json", intermediate_size=HUGE),
    "vocabulary huge": put("config.json", vocab_size=HUGE),
    "vocabulary a fraction": put("config.json", vocab_size=0.5),
    "context a word": put("config.json", max_position_embeddings="long"),
    "context negative": put("config.json", max_position_embeddings=-1),
    "context nan": put("config.json", max_position_embeddings=float("nan")),
    "window a word": put("config.json", sliding_window="wide"),
    "window negative": put("config.json", sliding_window=-5),
    "activation unknown": put("config.json", hidden_act="nothing"),
    "norm a word": put("config.json", rms_norm_eps="small"),
    "rope a number": put("config.json", rope_parameters=5),
    "rope unknown": put("config.json", rope_parameters={"rope_type": "nothing"}),
    "kind a number": put("config.json", model_type=5),
    "kind a list": put("config.json", model_type=["llama"]),
    "kind unknown": put("config.json", model_type="nothing"),
    "kind of another model": put("config.json", model_type="bert"),
    "dtype unknown": put("config.json", dtype="float12"),
    "dtype a list": put("config.json", dtype=[1], torch_dtype=[1]),
    "end a word": put("config.json", eos_token_id="end"),
    "end a dict": put("config.json", eos_token_id={"a": 1}),
    "end negative": put("config.json", eos_token_id=-7),
    "end huge": put("config.json", eos_token_id=HUGE),
    "pad outside": put("config.json", pad_token_id=10**6),
    "text config a word": put("config.json", text_config="text"),
    "text config odd": put("config.json", text_config={"hidden_size": "wide"}),
    "code a word": put("config.json", auto_map="model.Model"),
    "code a list": put("config.json", auto_map=[1]),
    "dropout a word": put("config.json", attention_dropout="much"),
    "dropout above one": put("config.json", attention_dropout=2.5),
    "a router's loss": put("config.json", output_router_logits=True),
    "a list": write("config.json", b"[1]"),
    "not UTF-8": write("config.json", b'{"model_type": "\xff"}'),
    "a lone surrogate": write("config.json", b'{"model_type": "llama", "a": "\\ud800"}'),
    "nested deeply": write("config.json", b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "empty": write("config.json", b""),
    "a huge number": write(
        "config.json", b'{"model_type": "llama", "vocab_size": ' + b"9" * 5000 + b"}"
    ),
    "generation a list": write("generation_config.json", b"[1]"),
    "generation odd": put("generation_config.json", eos_token_id="a", temperature="hot"),
    "generation end a dict": put("generation_config.json", eos_token_id={"a": 1}),
    "adapters odd": write("adapter_config.json", b"[1]"),
    "adapters without a base": write("adapter_config.json", b"{}"),
    "a headway.json": write("headway.json", b"{}"),
    "a headway.json that is a list": write("headway.json", b"[]"),
    "a headway.json of another thing": write("headway.json", b'{"schema": 5}'),
}
QUANTIZED = {
    "bitsandbytes 4-bit": quantized("bitsandbytes", load_in_4bit=True),
    "bitsandbytes 8-bit": quantized("bitsandbytes", load_in_8bit=True),
    "GPTQ": quantized("gptq", bits=4, group_size=128),
    "AWQ": quantized("awq", bits=4, version="gemm"),
    "compressed-tensors": quantized("compressed-tensors", config_groups={}),
    "FP8": quantized("fp8", weight_block_size=[128, 128]),
    "MXFP4": quantized("mxfp4"),
    "an unknown method": quantized("nothing"),
    "no method": put("config.json", quantization_config={"bits": 4}),
    "a word": put("config.json", quantization_config="gptq"),
    "GPTQ's own file": put("quantize_config.json", bits=4, group_size=128),
}
TOKENIZER = {
    "end a list": put("tokenizer_config.json", eos_token=["a"]),
    "end a number": put("tokenizer_config.json", eos_token=5),
    "end a dict without content": put("tokenizer_config.json", eos_token={"a": 1}),
    "end whose content is a list": put("tokenizer_config.json", eos_token={"content": ["a"]}),
    "pad a list": put("tokenizer_config.json", pad_token=["a"]),
    "begin a list": put("tokenizer_config.json", bos_token=["a"], add_bos_token=True),
    "begin a number to add": put("tokenizer_config.json", bos_token=7, add_bos_token=True),
    "length a word": put("tokenizer_config.json", model_max_length="long"),
    "length negative": put("tokenizer_config.json", model_max_length=-5),
    "length nan": put("tokenizer_config.json", model_max_length=float("nan")),
    "length zero": put("tokenizer_config.json", model_max_length=0),
    "config a list": write("tokenizer_config.json", b"[]"),
    "config not UTF-8": write("tokenizer_config.json", b'{"a": "\xff\xfe"}'),
    "config nested deeply": write(
        "tokenizer_config.json", b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}"
    ),
    "map a list": write("special_tokens_map.json", b"[]"),
    "map odd": put("special_tokens_map.json", unk_token=[1], mask_token={"content": 5}),
    "vocabulary empty": words(type="WordLevel", vocab={}, merges=None, unk_token="[UNK]"),
    "vocabulary empty and nothing added": lambda folder: edit(
        folder / "tokenizer.json",
        lambda _: {"version": "1.0", "added_tokens": [], "model": EMPTY_WORDS},
    ),
    "vocabulary without bytes": words(vocab={"a": 0, "b": 1}, merges=[]),
    "id huge": words(vocab={"a": 0, "b": (1 << 32) - 1}, merges=[]),
    "id negative": words(vocab={"a": -1}, merges=[]),
    "unknown token missing": words(
        type="WordPiece",
        vocab={"a": 0},
        merges=None,
        unk_token="[UNK]",
        continuing_subword_prefix="##",
        max_input_chars_per_word=100,
    ),
    "kind unknown": words(type="Nothing"),
    "tokenizer a list": write("tokenizer.json", b"[]"),
    "tokenizer empty": write("tokenizer.json", b""),
    "tokenizer not UTF-8": write("tokenizer.json", b"\xff\xfe"),
    "tokenizer nested deeply": write("tokenizer.json", b"[" * 3000 + b"]" * 3000),
    "tokenizer cut": cut("tokenizer.json", 0.5),
    "tokenizer a folder": both(
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "tokenizer.json").mkdir(),
    ),
    "template a number": put("tokenizer_config.json", chat_template=5),
    "template a list of words": put("tokenizer_config.json", chat_template=["a"]),
    "template a dict": put("tokenizer_config.json", chat_template={"default": "a"}),
    "template list without names": put("tokenizer_config.json", chat_template=[{"a": 1}]),
    "template list of odd values": put(
        "tokenizer_config.json", chat_template=[{"name": "default", "template": 5}]
    ),
    "template not UTF-8": write("chat_template.jinja", b"{{ '\xff\xfe' }}"),
}
WEIGHTS = {
    "shape huge and empty": header(tensor([HUGE, HUGE, 0])),
    "shape huge": header(tensor([HUGE, HUGE])),
    "shape negative": header(tensor([-1])),
    "shape a word": header({"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 0]}}),
    "type unknown": header(tensor([0], "F7")),
    "offsets beyond": header(tensor([1 << 40], at=(0, 1 << 42))),
    "header longer than the file": header({}, 1 << 40),
    "no tensors": header({}),
    "empty": write("model.safetensors", b""),
    "cut": cut("model.safetensors", 0.7),
    "index odd": both(
        lambda folder: (folder / "model.safetensors").unlink(),
        write("model.safetensors.index.json", b'{"weight_map": {"a": 5}}'),
    ),
    "index nested deeply": both(
        lambda folder: (folder / "model.safetensors").unlink(),
        write("model.safetensors.index.json", b"[" * 3000 + b"]" * 3000),
    ),
    "a folder": both(
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").mkdir(),
    ),
    "names of another model": header(tensor([4], at=(0, 16))),
}
KINDS: dict[str, dict[str, Callable[[Path], None]]] = {
    "config": CONFIG,
    "quantized": QUANTIZED,
    "tokenizer": TOKENIZER,
    "template": {name: template(text) for name, text in TEMPLATES.items()},
    "weights": WEIGHTS,
}


def copied(good: Path, to: Path, change: Callable[[Path], None] = lambda _: None) -> Path:
    """A copy of a good folder, changed."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(good, to)
    change(to)
    return to


# ---- by chance ---------------------------------------------------------------------------------


def changed_by_chance(folder: Path, draws: Random) -> str:
    """Change a folder by one to three chance changes; says which."""
    said = [draws.choice(_CHANCES)(folder, draws) for _ in range(draws.choice((1, 1, 1, 2, 3)))]
    return ", ".join(said)


def _value(folder: Path, draws: Random) -> str:
    name = draws.choice(("config.json", "config.json", "tokenizer_config.json", "tokenizer.json"))
    if not (folder / name).is_file():
        return f"no {name}"
    said = ""

    def change(whole: Any) -> Any:
        nonlocal said
        places = list(_places(whole))
        if not places:
            return draws.choice(VALUES)
        place = draws.choice(places)
        at = whole
        for key in place[:-1]:
            at = at[key]
        if draws.random() < 0.1:
            del at[place[-1]]
            said = f"{name} without {place}"
        else:
            at[place[-1]] = deepcopy(draws.choice(VALUES))
            said = f"{name}: {place} = {at[place[-1]]!r}"
        return whole

    try:
        edit(folder / name, change)
    except ValueError:
        return f"{name} is not JSON"
    return said


def _places(value: Any, depth: int = 3) -> Iterator[tuple[Any, ...]]:
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys)[:40]:
        yield (key,)
        if depth:
            yield from ((key, *rest) for rest in _places(value[key], depth - 1))


def _bytes(folder: Path, draws: Random) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    name = draws.choice(names)
    data = bytearray((folder / name).read_bytes())
    for _ in range(draws.choice((1, 3, 10))):
        at = draws.randrange(min(len(data), 4000)) if data else 0
        match draws.randrange(3):
            case 0 if data:
                data[at] = draws.randrange(256)
            case 1:
                del data[at : at + draws.randrange(1, 50)]
            case _:
                data[at:at] = draws.randbytes(draws.randrange(1, 8))
    (folder / name).write_bytes(data)
    return f"bytes of {name}"


def _end(folder: Path, draws: Random) -> str:
    name = draws.choice(sorted(p.name for p in folder.iterdir() if p.is_file()))
    cut(name, draws.random())(folder)
    return f"{name} cut"


def _no_file(folder: Path, draws: Random) -> str:
    files = sorted(p.name for p in folder.iterdir() if p.is_file())
    if len(files) < 2:
        return "nothing"
    name = draws.choice(files)
    (folder / name).unlink()
    return f"no {name}"


def _named(folder: Path, draws: Random) -> str:
    kind = draws.choice([name for name in KINDS if name != "template"])
    name = draws.choice(sorted(KINDS[kind]))
    try:
        KINDS[kind][name](folder)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return "nothing"  # an earlier change took what this one changes
    return f"{kind}: {name}"


def _template(folder: Path, draws: Random) -> str:
    """A template made of pieces, in an order that may not make sense."""
    pieces = (
        *("{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "{{ eos_token }}", "{{ "),
        *("}}", "{% if add_generation_prompt %}", "{% endif %}", "{% else %}", "{% generation %}"),
        *("{% endgeneration %}", "{{ messages[0]['role'] }}", "{{ messages[-1].content }}", "a"),
        *("{{ raise_exception('no') }}", "{% set x = messages | length %}", "{{ x * 3 }}", "\n"),
        *("{{ strftime_now('%d') }}", "{{ tools | tojson }}", "{% break %}", "{{ messages.x.y }}"),
    )
    text = "".join(draws.choice(pieces) for _ in range(draws.randrange(1, 12)))
    template(text)(folder)
    return f"template {text!r}"


_CHANCES = (_value, _value, _value, _value, _bytes, _end, _no_file, _named, _named, _template)
