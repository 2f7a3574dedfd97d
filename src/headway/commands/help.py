"""Help: all verbs, or one verb and its options."""

from collections.abc import Mapping

from headway.commands.verb import Verb
from headway.config.command_line import help_lines

_SLOGAN = "Language-model training that makes headway, and proves it."
_CLOSING = (
    "headway VERB --help shows a verb's options. RUN is a name, a folder or, when",
    "left out, the newest run. DATA is files, folders, patterns, or - for standard input.",
)


def overview_lines(verbs: Mapping[str, Verb]) -> list[str]:
    """What `headway --help` prints."""
    width = max(len(verb.usage) for verb in verbs.values())
    listed = (f"  headway {verb.usage:{width}}  {verb.help}" for verb in verbs.values())
    return [_SLOGAN, "", *listed, "", *_CLOSING]


def verb_lines(verb: Verb) -> list[str]:
    """What `headway VERB --help` prints."""
    options = help_lines(verb.options, settings=verb.settings)
    return [f"headway {verb.usage}", "", verb.help, "", *options]
