"""bitsandbytes comes in silence."""

import logging
import sys
import warnings
from pathlib import Path

import pytest

from headway.model.quantized.library import import_bitsandbytes

LOUD = """
import logging, warnings
logging.getLogger(__name__ + ".backends").warning("no kernels")
warnings.warn("torch.jit is deprecated", DeprecationWarning)
"""


def test_it_says_nothing_and_leaves_its_logger_as_it_was(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bitsandbytes.py").write_text(LOUD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    with warnings.catch_warnings(record=True) as said, caplog.at_level(logging.DEBUG):
        library = import_bitsandbytes()
    assert Path(library.__file__).parent == tmp_path
    assert (said, caplog.text, logger.level) == ([], "", level)
    monkeypatch.delitem(sys.modules, "bitsandbytes")
