"""New tokens: those of a tokenizer that its model has no embedding for."""

import re
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.units import count
from headway.data.examples.tokenizer import Tokenizer
from headway.runs.base_model import ADAPTERS

# Stands for a picture or a sound, which a model of text alone has no row for.
_PLACEHOLDER = re.compile(r"image|audio|video|vision", re.IGNORECASE)


def check_words(tokenizer: Tokenizer, rows: int, folder: Path) -> None:
    """Check that a model has a row for every token.

    Args:
        tokenizer: of the model.
        rows: of its input embedding; 0 if they are not known.
        folder: of the model or its adapters, for people.

    Raises:
        UsageError: some were added, and their embeddings are not there.
    """
    tokens = [tokenizer.token_of(one) or "" for one in range(rows, tokenizer.vocab_size)]
    beyond = [token for token in tokens if token and not _PLACEHOLDER.search(token)]
    if not rows or not beyond:
        return
    is_adapter = (folder / ADAPTERS).is_file()
    raise UsageError(
        f"{folder} has tokens without an embedding",
        cause=Cause.EMBEDDINGS_UNTRAINED if is_adapter else Cause.TOKEN_OUTSIDE_EMBEDDING,
        have=f"{', '.join(beyond[:5])}, and an embedding of {count(rows)} rows",
        need="their rows, trained and saved with the model"
        + (": modules_to_save in adapter_config.json" if is_adapter else ""),
        remedies=(
            Remedy("copy the tokenizer again", "that of the model before they were added"),
            Remedy("headway train DATA --model DIR", "trains all weights, embeddings among them"),
        ),
    )
