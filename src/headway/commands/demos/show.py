"""Screen of a demo: all of it, the score alone, or JSON."""

from collections.abc import Sequence

from headway.commands.verb import print_lines, terminal_width
from headway.config.command_line import Arguments


class DemoScreen:
    """What is printed around the training.

    Args:
        arguments: say whether somebody reads it.

    Attributes:
        is_json, is_quiet, is_silent: for programs, for nobody, and one of both.
        width: columns.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.is_json, self.is_quiet = arguments.on("json"), arguments.on("quiet")
        self.is_silent = self.is_json or self.is_quiet
        self.width = terminal_width()

    def text(self, *paragraphs: str) -> None:
        """Paragraphs, wrapped."""
        from headway.ui.text_layout import fold

        self.lines([line for one in paragraphs for line in fold(one, self.width)])

    def lines(self, lines: Sequence[str]) -> None:
        """Lines that are wrapped already."""
        if not self.is_silent:
            print_lines(lines)
