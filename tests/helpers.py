"""Small stores, models, plans and jobs, for the tests of the core."""

import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headway.base.documents import DocumentGroup, RowSpan, document_lengths
from headway.base.errors import Exit
from headway.base.events import Event, EventLog, LogEntry, StepDone, read_events
from headway.base.machine import Machine
from headway.base.process import Stop
from headway.base.pulse import Pulse
from headway.config.resolve import resolve
from headway.config.settings import Given, Settings
from headway.data.batching.rows import rows_of
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.examples import Example
from headway.data.examples.tokenizer import Tokenizer
from headway.data.formats.records import DataKind
from headway.data.order import StoreOrder
from headway.data.survey.result import Survey
from headway.data.survey.store import SCHEMA, Store, StoreMeta, StoreWriter, summarize
from headway.model.sizes import shape_of
from headway.planning.compute import KnownMachine
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.runs.folder import RunFolder
from headway.runs.identity import identity_of
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, load_receipt

DOCS = Path(__file__).resolve().parents[1] / "docs"
VOCAB = 259  # bytes, and three special tokens
HERE = KnownMachine(
    machine=Machine(1, 8 * 10**9, 8 * 10**9, "a CPU", "Linux x86_64"),
    device="cpu",
    why="no accelerator here",
    process_bytes=400_000_000,
    measured=lambda _: None,
    torch="2",
)
TINY = InitialModel("preset", "tiny", "")


def docs_script(name: str) -> types.ModuleType:
    """A script that makes pages, loaded as it is when it is run by its path."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(DOCS))  # as Python does
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


@functools.cache
def byte_level() -> Tokenizer:
    return tokenizers.byte_level()


# ---- stores ----------------------------------------------------------------------------------


def text_store(folder: Path, *lengths: int, **survey: Any) -> Store:
    """Documents of so many tokens each, the end token among them; the tokens repeat and are few."""
    ids = [_ids(number, length) for number, length in enumerate(lengths)]
    return _store(folder, "text", [(i, np.arange(len(i)) > 0) for i in ids], survey)


def chat_store(folder: Path, *flags: str, **survey: Any) -> Store:
    """Conversations as pictures: a token each, `x` where it is trained: "..xx.x"."""
    trained = [np.array([c == "x" for c in one], dtype=np.bool_) for one in flags]
    examples = [(_ids(number, len(one)), one) for number, one in enumerate(trained)]
    return _store(folder, "conversations", examples, survey)


def chats(num: int, question: int = 4, answer: int = 4) -> list[str]:
    """Some conversations for `chat_store`, of several lengths."""
    return ["." * (question + n % 3) + "x" * (answer + n % 2) + "." * (n % 2) for n in range(num)]


def in_memory(*examples: int | str, **changes: Any) -> Store:
    """A store without files, for what only looks at lengths: documents or conversations."""
    kind: DataKind = "conversations" if any(isinstance(one, str) for one in examples) else "text"
    flags = [one if isinstance(one, str) else "." + "x" * (one - 1) for one in examples]
    trained = [np.array([c == "x" for c in one], dtype=np.bool_) for one in flags]
    lengths = np.array([len(one) for one in flags], dtype=np.int64)
    num_tokens, num_trained = int(lengths.sum()), int(sum(one.sum() for one in trained))
    survey = _survey(kind, lengths, num_tokens, num_trained, 112)
    store = Store.__new__(Store)
    store.folder = Path("store")
    store.meta = StoreMeta(SCHEMA, "uint16", (), replace(survey, **changes))
    store.ids = np.arange(num_tokens).astype(np.uint16)  # so that no two begin alike
    store.starts = np.concatenate([[0], np.cumsum(lengths)])
    store.trained = np.concatenate(trained) if kind == "conversations" else None
    return store


def _ids(number: int, length: int) -> Any:
    """Tokens in which the next one follows from the last, so that there is something to learn."""
    return ((np.arange(length) * 7 + number) % 13 + 100).astype(np.int32)


def _store(folder: Path, kind: DataKind, examples: Sequence[Any], changes: dict[str, Any]) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    byte_level().save(folder)
    writer = StoreWriter(folder, kind, VOCAB)
    for number, (ids, trained) in enumerate(examples):
        writer.add(Example("data.jsonl", number + 1, ids, trained))
    survey = _survey(kind, writer.lengths(), writer.num_tokens, writer.num_trained, writer.max_id)
    writer.finish(replace(survey, **changes))
    return Store(folder)


def _survey(kind: DataKind, lengths: Any, num_tokens: int, num_trained: int, max_id: int) -> Survey:
    words = byte_level()
    return Survey(
        kind=kind,
        sources=("notes.txt",),
        records_read=len(lengths),
        records_rejected={},
        records_accepted=len(lengths),
        bytes=num_tokens,
        characters=num_tokens,
        tokens=num_tokens,
        trained_tokens=num_trained,
        lengths=summarize(lengths),
        vocab_size=VOCAB,
        max_id=max_id,
        end_id=words.end_id,
        fingerprint="ab" * 32,
        tokenizer=words.fingerprint,
        tokenizer_from="byte-level",
        template="" if kind == "text" else "ef" * 32,
        marked_example="«a»",
        seconds=0.0,
    )


# ---- models and micro-batches ----------------------------------------------------------------


def causal(model_type: str, *, scale: float = 5.0, seed: int = 1, **config: Any) -> Any:
    """A model with fresh fp32 weights and the attention of its own kind.

    Args:
        model_type: transformers' name of the kind.
        scale: of the weights; large ones, so that a mistake in the attention shows.
        seed: of the weights.
        config: instead of two layers of 16.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {k: v for k, v in llama(tie_word_embeddings=False).items() if k != "model_type"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoConfig.for_model(model_type, **(shape | config))
        model = AutoModelForCausalLM.from_config(made).float()
    for p in model.parameters():
        p.data.mul_(scale)
    return model


def micro_of(*lengths: int, every: int = 2, vocab: int = VOCAB, seed: int = 0) -> Any:
    """A micro-batch of documents of these lengths, shortest first, with chance tokens.

    Args:
        lengths: input tokens of each document.
        every: trained is each document's last token, and every so many before it.
        vocab: ids are smaller.
        seed: of the tokens.
    """
    import torch

    from headway.data.batching.batches import MicroTensors

    draws = torch.Generator().manual_seed(seed)
    ends = np.cumsum(sorted(lengths))
    trained = [
        at
        for length, end in zip(sorted(lengths), ends, strict=True)
        for at in range(end - length, end)
        if (end - 1 - at) % every == 0
    ]
    return MicroTensors(
        rows_R=np.arange(len(lengths)),
        ids_N=torch.randint(vocab, (sum(lengths),), generator=draws),
        positions_N=torch.cat([torch.arange(n) for n in sorted(lengths)]),
        trained_at_M=torch.tensor(trained),
        host_trained_at_M=np.array(trained, dtype=np.int64),
        targets_M=torch.randint(vocab, (len(trained),), generator=draws),
        documents=tuple(DocumentGroup(n, lengths.count(n)) for n in sorted(set(lengths))),
    )


def sharing(*families: tuple[int, Sequence[int]], every: int = 2, seed: int = 0) -> tuple[Any, Any]:
    """The same documents twice: what they begin with once for all of them, and each one whole.

    Args:
        families: tokens that documents begin with, and those of each of them that come after.
        every: trained is each whole document's last token, and every so many before it.
        seed: of the tokens.

    Returns:
        Two micro-batches, whose targets come in the same order.
    """
    import torch

    from headway.data.batching.batches import MicroTensors

    draws = torch.Generator().manual_seed(seed)
    ids, positions, groups = list[Any](), list[Any](), list[Any]()
    whole_ids, trained_at, whole_at = list[Any](), list[int](), list[int]()
    here = there = 0
    for before, owns in families:
        first = torch.randint(VOCAB, (before,), generator=draws)
        span = RowSpan(here, here + before)
        ids.append(first)
        positions.append(torch.arange(before))
        groups.append(DocumentGroup(before))
        here += before
        for own in owns:
            rest, length = torch.randint(VOCAB, (own,), generator=draws), before + own
            places = [*range(span.begin, span.end), *range(here, here + own)]
            trained = [t for t in range(length) if (length - 1 - t) % every == 0]
            trained_at += [places[t] for t in trained]
            whole_at += [there + t for t in trained]
            ids.append(rest)
            positions.append(torch.arange(before, length))
            groups.append(DocumentGroup(own, prefix=span))
            whole_ids.append(torch.cat([first, rest]))
            here, there = here + own, there + length
    targets = torch.randint(VOCAB, (len(trained_at),), generator=draws)
    rows, wholes = np.arange(len(whole_ids)), tuple(DocumentGroup(len(one)) for one in whole_ids)
    once = MicroTensors(
        rows,
        torch.cat(ids),
        torch.cat(positions),
        torch.tensor(trained_at),
        targets,
        tuple(groups),
        np.array(trained_at, dtype=np.int64),
    )
    whole_positions = torch.cat([torch.arange(len(one)) for one in whole_ids])
    each = MicroTensors(
        rows,
        torch.cat(whole_ids),
        whole_positions,
        torch.tensor(whole_at),
        targets,
        wholes,
        np.array(whole_at, dtype=np.int64),
    )
    return once, each


def padded_losses(model: Any, micro: Any) -> Any:
    """(M,) the textbook: documents padded to the longest, masked, torch's cross-entropy."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - everybody's name for it

    lengths = document_lengths(micro.documents)
    ids, labels = (torch.zeros(len(lengths), max(lengths), dtype=torch.long) for _ in range(2))
    mask, trained = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    line_labels = torch.zeros_like(micro.ids_N).index_put((micro.trained_at_M,), micro.targets_M)
    line_trained = torch.zeros_like(micro.ids_N, dtype=torch.bool)
    line_trained[micro.trained_at_M] = True
    begin = 0
    for row, length in enumerate(lengths):
        here = slice(begin, begin + length)
        ids[row, :length], mask[row, :length] = micro.ids_N[here], 1
        labels[row, :length], trained[row, :length] = line_labels[here], line_trained[here]
        begin += length
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return F.cross_entropy(logits[trained].float(), labels[trained], reduction="none")


# ---- plans -----------------------------------------------------------------------------------


def settings(**given: Any) -> Settings:
    """Settings as if typed: `settings(batch_size=4)`."""
    return resolve([Given(name, value, f"--{name}") for name, value in given.items()])


def llama(**changes: Any) -> dict[str, Any]:
    """The config of a Llama with two layers of 16."""
    return {
        "model_type": "llama",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 32,
        "vocab_size": VOCAB,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    } | changes


def folder_of(context: int = 256) -> InitialModel:
    """The weights of a model that takes so many tokens; nothing is read."""
    config = llama(max_position_embeddings=context)
    return InitialModel(
        "folder", "base", "/base", config, parameters=9000, weights_sha256="31" * 32
    )


def decided(store: Store, start: InitialModel = TINY, **given: Any) -> Plan:
    """What is decided for a store on a small machine, as it is decided."""
    return decide(settings(**given), ("notes.txt",), store, start, HERE)


def plan_of(store: Store, start: InitialModel = TINY, **given: Any) -> Plan:
    """What is decided, with a model smaller than any preset.

    In fp32, unless asked otherwise: twins must not be told different things by a measurement.
    """
    plan = decided(store, start, **{"bf16": False} | given)
    if start.source != "preset":
        return plan
    config = llama(max_position_embeddings=max(256, plan.data.max_length))
    size = shape_of(config).parameters
    model = replace(plan.model, config=config, parameters=size, trainable=size)
    plan = replace(plan, model=model)
    return replace(plan, identity=identity_of(plan))


def findings(plan: Plan, kind: str) -> list[str]:
    """What a plan found, of one kind."""
    return [finding.what for finding in plan.findings if finding.kind == kind]


def order_of(plan: Plan, store: Store) -> StoreOrder:
    """Which rows make which step of a plan."""
    rows = rows_of(store, plan.data.max_length)
    held_out, batch = plan.data.rows.held_out, plan.steps.batch_size
    passed_over = plan.data.twin_places
    return StoreOrder(plan.seed, rows.num_full, rows.has_short, held_out, batch, passed_over)


def folder_start(folder: Path) -> InitialModel:
    """A start from a transformers folder."""
    from headway.planning.model_source import find_model_source

    return find_model_source(Settings(model=str(folder)), 0, Pulse()).initial


def save_model(folder: Path, **changes: Any) -> Path:
    """A transformers folder with a small Llama and the bytes as its tokenizer."""
    import transformers

    from headway.model.load import from_config

    transformers.utils.logging.disable_progress_bar()
    model: Any = from_config(llama(**changes), seed=1)
    model.save_pretrained(folder)
    byte_level().save(folder)
    return folder


# ---- jobs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """An attempt that is over."""

    code: int
    folder: RunFolder
    job: "Job"

    @property
    def receipt(self) -> Receipt:
        return load_receipt(self.folder.path)

    @property
    def events(self) -> list[Event]:
        """The log as one story."""
        return [entry.event for entry in self.entries]

    @property
    def entries(self) -> list[LogEntry]:
        return read_events(self.folder.events)

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def hashes(self) -> dict[str, str]:
        """sha256 of the newest checkpoint's weights and moments, by file."""
        newest, problems = self.folder.newest_verified()
        assert newest is not None, problems
        return weight_hashes(newest.path)


def weight_hashes(checkpoint: Path) -> dict[str, str]:
    """sha256 of a checkpoint's safetensors, by file."""
    from headway.base.files import hash_file

    return {file.name: hash_file(file).sha256 for file in checkpoint.glob("*.safetensors")}


class Job:
    """What a test sees of an attempt that runs; `attempt` is None until it is prepared."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.stop = Stop()
        self.pulse = Pulse()
        self.attempt: Any = None

    @property
    def trainer(self) -> Any:
        return self.attempt.trainer


class Watch(EventLog):
    """An event log that lets a test act the moment something is told."""

    on: Callable[[Event], None] = staticmethod(lambda _: None)

    def write(self, event: Event) -> None:
        super().write(event)
        self.on(event)


def run(
    folder: Path,
    plan: Plan,
    *,
    attempt: int = 1,
    on: Callable[[Event, Any], None] = lambda _, __: None,
    place: Any = None,
    spent_s: float = 0.0,
) -> Ran:
    """One attempt at a plan, in this process. `on` sees each event and the job."""
    from headway.base.process import Left
    from headway.training.attempt import prepare
    from headway.training.distributed.place import ONLY_WORKER
    from headway.training.phases import Phases
    from headway.training.worker import stopped_early

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "plan.json").exists():
        plan.save(folder)
    log = Watch(folder / "events.jsonl", attempt, rank=0)
    job = Job(RunFolder(folder))
    log.on = lambda event: on(event, job)
    try:
        phases = Phases(job.pulse, log)
        job.attempt = prepare(folder, log, phases, job.stop, place or ONLY_WORKER, spent_s)
        code = job.attempt.run()
    except Left:
        code = stopped_early(log, job.stop, job.folder)
    return Ran(code, job.folder, job)


def stop_after(step: int) -> Callable[[Event, Any], None]:
    """For `run`: ask for a stop, as SIGTERM would, once this step is finished."""

    def on(event: Event, job: Any) -> None:
        if isinstance(event, StepDone) and event.step == step:
            job.stop.ask("SIGTERM", Exit.COME_BACK)

    return on
