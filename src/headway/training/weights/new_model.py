"""New model: random weights and a tokenizer trained on texts, written as a model folder.

    python -m headway.training.weights.new_model FOLDER PRESET VOCAB_SIZE SEED TEXTS

TEXTS is a file with a text per line. The same arguments write the same model.
"""

import sys
from pathlib import Path

from headway.base.errors import Exit, Refusal, exit_code
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.process import report_refusal


def main(arguments: list[str]) -> int:
    """The process; returns its exit code."""
    end_with_parent()
    folder, preset, vocab_size, seed, texts = arguments
    try:
        write_new_model(
            Path(folder),
            preset,
            int(vocab_size),
            int(seed),
            Path(texts).read_text(encoding="utf-8").splitlines(),
        )
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)
    return Exit.KEPT


def write_new_model(
    folder: Path, preset: str, vocab_size: int, seed: int, texts: list[str]
) -> None:
    """Write a model that has learned nothing yet, for conversations.

    Args:
        folder: is made; it appears complete.
        preset: its size.
        vocab_size: of the tokenizer that is trained on the texts, at most.
        seed: of the weights.
        texts: what the tokenizer is trained on.

    Raises:
        MachineError: the disk does not take it.
    """
    from headway.base.disk import disk_errors
    from headway.base.files import make_folder
    from headway.data.examples import tokenizer
    from headway.data.examples.chatml import chatml_for
    from headway.model.load import from_config
    from headway.model.presets import config

    words = tokenizer.train(texts, vocab_size)
    words = words.with_template(chatml_for(words))
    end = words.end_id
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    model = from_config(config(preset, words.vocab_size, 0, special), seed)
    unfinished = folder.with_name(f".{folder.name}.part")
    make_folder(unfinished)
    with disk_errors(folder):
        model.save_pretrained(unfinished)  # pyright: ignore[reportCallIssue]
        words.save(unfinished)
        unfinished.rename(folder)


if __name__ == "__main__":
    sys.exit(run_child(main))
