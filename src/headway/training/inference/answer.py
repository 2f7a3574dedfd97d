"""Inference worker: text from a prompt or a conversation, or the loss on data.

    python -m headway.training.inference.answer FILE     a JSON file with an `InferenceRequest`

`generate`, `chat`, `eval` and `demo` start it. Text goes to standard output as it is generated, the
result to the process that started it.
"""

import importlib
import os
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from headway.base.errors import (
    Cause,
    DataRefused,
    Exit,
    Refusal,
    Remedy,
    UsageError,
    exit_code,
)
from headway.base.files import cache_folder
from headway.base.foreign.imports import quick_imports
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.process import PULSE_VARIABLE, report_refusal, send_answer
from headway.base.pulse import Phase, Pulse
from headway.base.units import plural
from headway.data.examples.jinja import RenderError
from headway.data.examples.tokenizer import Tokenizer, load
from headway.data.survey.store import Store
from headway.model.gguf.container import is_gguf
from headway.model.gguf.convert import gguf_folder
from headway.training.inference.conversation import HINT, Conversation, Message, Next, Reply
from headway.training.inference.recall import recall
from headway.training.inference.request import (
    READY,
    SCREEN_IS_FREE,
    Evaluation,
    InferenceRequest,
    InferenceResult,
)

_SCREEN_S = 2.0  # at most, for the screen to be free
_NO_LIMIT = 1 << 62  # bytes: data to evaluate is read completely, whatever its size


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    end_with_parent()
    request = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=InferenceRequest)
    path = os.environ.get(PULSE_VARIABLE)
    pulse = Pulse(Path(path) if path else None)
    result, code = InferenceResult(), Exit.KEPT
    try:
        _import_libraries(pulse)
        if request.kind == "eval":
            result = InferenceResult(evaluation=evaluate(request, pulse))
        elif request.kind == "recall":
            result = InferenceResult(recalled=recall(request, pulse))
        elif request.kind == "ask":
            result = InferenceResult(answers=_Talk(request, pulse).answers())
        else:
            talk = _Talk(request, pulse)
            if sys.stdout.isatty():
                _await_screen(Path(arguments[0]).with_name(SCREEN_IS_FREE))
            talk.run()
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)
    except KeyboardInterrupt:
        if request.kind in ("eval", "recall", "ask"):
            return Exit.INTERRUPTED  # without an answer; a text is what was written until then
        code = Exit.INTERRUPTED
    send_answer(result)
    return code


def _import_libraries(pulse: Pulse) -> None:
    with quick_imports():
        with pulse.importing(Phase.IMPORTING_TORCH):
            importlib.import_module("headway.training.weights.initial_weights")
            from headway.model.load import warm_up
        with pulse.importing(Phase.IMPORTING_TRANSFORMERS):
            warm_up(adapters=False)


def _await_screen(is_free: Path) -> None:
    """Wait until the line that showed the wait is erased: it would take our first line with it."""
    end_s = time.monotonic() + _SCREEN_S
    while not is_free.exists() and time.monotonic() < end_s:
        time.sleep(0.01)


def evaluate(request: InferenceRequest, pulse: Pulse) -> Evaluation:
    """The mean loss over every row of the data.

    Raises:
        Refusal: the data or the model cannot be used.
    """
    import math

    import numpy as np

    from headway.data.batching.batches import evaluation_micro_batches
    from headway.data.batching.rows import rows_of
    from headway.data.examples.maker import ExampleOptions
    from headway.data.sources.find import find_sources
    from headway.data.survey.survey import survey
    from headway.model.forward import Forward
    from headway.training.evaluation.evaluate import measure_loss
    from headway.training.trials.probes import try_packing
    from headway.training.weights.initial_weights import load_folder

    folder = Path(request.checkpoint)
    store = survey(
        find_sources(request.data, pulse=pulse),
        ExampleOptions(
            tokenizer=folder,
            vocab_size=0,
            template=None,
            assistant_only=True,
            preferred_only=request.preferred_only,
            keep_empty_answers=request.keep_empty_answers,
            add_special_tokens=request.add_special_tokens,
        ),
        max_rejected=request.max_rejected,
        exact_bytes=_NO_LIMIT,
        cache=cache_folder("stores"),
        pulse=pulse,
    )
    rows = rows_of(store, request.max_length)
    if not rows.num_rows:
        raise _all_too_long(len(store), store.survey.lengths.max, request.max_length)
    pulse.enter(Phase.LOADING_MODEL)
    base = Path(request.base) if request.base else None
    model = load_folder(folder, trust_remote_code=request.trust_remote_code, base=base)
    micros = evaluation_micro_batches(rows, np.arange(rows.num_rows), 2048, "cpu")
    forward = Forward(model)
    try_packing(forward, micros[0])
    with pulse.phase(Phase.EVALUATING, total=len(micros), unit="batches"):
        measured = measure_loss(forward, micros, pulse)
    tokens = sum(len(m.targets_M) for m in micros)
    bits = None
    if store.survey.kind == "text":
        bits = measured.mean * tokens / math.log(2) / _text_bytes(store, load(folder))
    return Evaluation(
        loss=measured.mean,
        error=measured.error,
        perplexity=math.exp(min(measured.mean, 700)),
        bits_per_byte=bits,
        rows=measured.rows,
        tokens=tokens,
    )


def _text_bytes(store: Store, words: Tokenizer) -> int:
    """Bytes of the text alone, without the JSON around it."""
    documents = pairwise(store.starts.tolist())
    return sum(len(words.decode(store.ids[a:b].tolist()).encode()) for a, b in documents)


def _all_too_long(num: int, longest: int, max_length: int) -> DataRefused:
    return DataRefused(
        f"no answer fits in max_length {max_length:,}",
        cause=Cause.ANSWERS_CUT,
        have=f"{plural(num, 'conversation')} of up to {plural(longest, 'token')}",
        need="at least one trained token",
        remedies=(Remedy(f"--max-length {longest}", "keeps every conversation complete"),),
    )


class _Talk:
    """Continues a text, or holds a conversation."""

    def __init__(self, request: InferenceRequest, pulse: Pulse) -> None:
        import torch

        from headway.training.weights.initial_weights import end_ids_of, load_folder

        self.request = request
        self.pulse = pulse
        if request.threads:
            torch.set_num_threads(request.threads)
        folder = Path(request.checkpoint)
        if is_gguf(folder):
            folder = gguf_folder(folder, pulse)
        self.tokenizer = load(folder)
        pulse.enter(Phase.LOADING_MODEL)
        base = Path(request.base) if request.base else None
        self.model = load_folder(folder, trust_remote_code=request.trust_remote_code, base=base)
        self.end_ids = sorted({*end_ids_of(self.model), *self.tokenizer.end_ids})
        pulse.enter(READY)

    def run(self) -> None:
        """Answer until the input ends."""
        if self.request.kind == "generate":
            sys.stdout.write(self.request.prompt)
            begin_id = self.request.begin_id
            self._write(self.tokenizer.prompt_ids(self.request.prompt, begin_id))
            sys.stdout.write("\n")
            return
        conversation = Conversation(self._render)
        if sys.stdin.isatty():
            _say(HINT)
        while True:
            said = _ask_person()
            reply = conversation.take(said) if said is not None else Reply(Next.END)
            _say(*reply.lines)
            if reply.next is Next.END:
                return
            if reply.next is Next.ANSWER:
                conversation.answered(self._write(self._chat_prompt(conversation.messages)))
                if not self.request.remembers:
                    conversation.forget()
                _say("")

    def _render(self, messages: list[Message]) -> str:
        from headway.data.examples.chat import Template

        return Template(self.tokenizer).render(messages, add_generation_prompt=True)

    def _chat_prompt(self, messages: list[Message]) -> list[int]:
        try:
            text = self._render(messages)
        except RenderError as error:
            raise UsageError(
                "the model's chat template rejects this conversation",
                cause=Cause.TEMPLATE_INVALID,
                have=f"{error.reason}: {error.detail}",
                need="messages that the template supports",
                remedies=(Remedy("headway generate", "continues a text instead"),),
            ) from error
        return list(self.tokenizer.encode([text])[0])

    def answers(self) -> tuple[str, ...]:
        """The answer to each question."""
        questions = self.request.questions
        found: list[str] = []
        with self.pulse.phase(READY, total=len(questions), unit="questions"):
            for question in questions:
                ids = self._chat_prompt([{"role": "user", "content": question}])
                found.append(self.tokenizer.decode(self._tokens(ids)))
                self.pulse.progress(len(found))
        return tuple(found)

    def _write(self, ids: list[int]) -> str:
        """Stream an answer, in complete characters: a token may be part of one."""
        written: list[int] = []
        shown = ""
        for token in self._tokens(ids):
            written.append(token)
            text = self.tokenizer.decode(written)
            if not text.endswith("\ufffd"):
                sys.stdout.write(text[len(shown) :])
                sys.stdout.flush()
                shown = text
        return shown

    def _tokens(self, ids: list[int]) -> Iterator[int]:
        """The tokens that follow."""
        from headway.model.attention import current_implementation
        from headway.training.evaluation.sample import generate, inference_mode_restored

        request = self.request
        with inference_mode_restored(self.model, current_implementation(self.model)):
            yield from generate(
                self.model,
                ids,
                num_tokens=request.num_tokens,
                end_ids=self.end_ids,
                temperature=request.temperature,
                top_k=request.top_k,
                seed=request.seed,
                limit_s=3600,
                on_token=self.pulse.beat,
            )


def _ask_person() -> str | None:
    """One line, None at the end of input. The prompt is shown on a terminal only."""
    if sys.stdin.isatty():
        sys.stdout.write("you: ")
        sys.stdout.flush()
    line = sys.stdin.readline()
    if not line and sys.stdin.isatty():
        _say("")  # Ctrl+D leaves the cursor behind the prompt
    return line.rstrip("\n") if line else None


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run_child(main))
