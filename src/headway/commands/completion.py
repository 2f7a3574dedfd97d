"""Command completion: a script for bash, zsh or fish, made from the tables that help shows."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from headway.base.errors import Cause, Remedy, UsageError
from headway.commands.verb import Verb, print_text
from headway.config.command_line import EVERYWHERE, Arguments
from headway.config.settings import is_flag, printed_name, table, value_name

SHELLS = ("bash", "zsh", "fish")
_RUNS, _FOLDERS, _FILES, _NOTHING = "@runs", "@folders", "@files", "@nothing"
# What the names of values in usages and options stand for; any other is free text.
_BY_NAME = {
    "RUN": _RUNS,
    "DIR": _FOLDERS,
    **dict.fromkeys(("MODEL", "PATH", "FILE", "DATA"), _FILES),
}


@dataclass(frozen=True)
class Option:
    """One option of a verb: its spellings, what it takes, and what it is for."""

    names: tuple[str, ...]  # "-n", "--lines"
    takes: str  # "" without a value; @runs, @folders, @files, @nothing, or choices: "cpu cuda"
    help: str


@dataclass(frozen=True)
class Table:
    """What can follow one verb."""

    verb: str
    help: str
    options: tuple[Option, ...]
    words: tuple[str, ...]  # as `Option.takes`


def completion(arguments: Arguments, verbs: Mapping[str, Verb]) -> int:
    """Print the script of a shell."""
    if len(arguments.words) != 1 or arguments.words[0] not in SHELLS:
        raise UsageError(
            "completion needs the name of a shell",
            cause=Cause.UNEXPECTED_ARGUMENT if arguments.words else Cause.MISSING_ARGUMENT,
            have=" ".join(arguments.words) or "no name",
            need=", ".join(SHELLS),
            remedies=tuple(Remedy(f"headway completion {shell}") for shell in SHELLS),
        )
    print_text(script(arguments.words[0], verbs))
    return 0


def completion_verb(verbs: Mapping[str, Verb]) -> Verb:
    """The verb; it completes all others, and itself.

    Args:
        verbs: by name; may still grow.
    """
    return Verb(
        "completion bash|zsh|fish",
        "complete commands in a shell",
        partial(completion, verbs=verbs),
        {},
        group="set up",
        about="Prints a script that lets a shell complete verbs, options, settings, their values "
        "and the names of runs. Source it once per shell, or from the shell's start-up file.",
        examples=(
            ("source <(headway completion bash)", "in this shell, or in ~/.bashrc"),
            ("source <(headway completion zsh)", "in this shell, or in ~/.zshrc after compinit"),
            ("headway completion fish | source", "in this shell, or in config.fish"),
        ),
    )


def script(shell: str, verbs: Mapping[str, Verb]) -> str:
    """The script of a shell.

    Args:
        shell: one of `SHELLS`.
        verbs: by name.
    """
    tables = [table_of(name, verb) for name, verb in verbs.items()]
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](tables)


def table_of(name: str, verb: Verb) -> Table:
    """What can follow a verb, from its options, the settings and its usage."""
    options = [
        Option(_names(key, switch.short), _values(switch.takes), switch.help)
        for key, switch in {**verb.options, **EVERYWHERE}.items()
    ]
    for row in table() if verb.settings else ():
        spelled = (printed_name(row), *row.metadata["also"])
        names = tuple(dict.fromkeys(f"--{one.replace('_', '-')}" for one in spelled))
        letter = (f"-{row.metadata['short']}",) if row.metadata["short"] else ()
        options.append(Option((*letter, *names), _values(value_name(row)), row.metadata["help"]))
        if is_flag(row):
            off = f"--no-{names[0].removeprefix('--')}"
            options.append(Option((off,), "", f"off: {row.metadata['help']}"))
    words = re.findall(r"[\w|]+", verb.usage.removeprefix(name).replace("--", " "))
    found = [_values(word) for word in words if word.isupper() or "|" in word.strip("|")]
    found = tuple(one for one in dict.fromkeys(found) if one != _NOTHING)
    return Table(name, verb.help, tuple(options), found)


def _names(key: str, short: str) -> tuple[str, ...]:
    name = f"--{key.replace('_', '-')}"
    return (f"-{short}", name) if short else (name,)


def _values(takes: str) -> str:
    if not takes:
        return ""
    return takes.replace("|", " ") if "|" in takes else _BY_NAME.get(takes, _NOTHING)


# -- bash ------------------------------------------------------------------------------------

_BASH = r"""# Completion of headway for bash: source <(headway completion bash)
__headway_output_dir() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            -o | --output-dir | --output_dir)
                if [ "${COMP_WORDS[i + 1]}" = "=" ]; then i=$((i + 1)); fi
                printf '%s' "${COMP_WORDS[i + 1]}"
                return ;;
            --output-dir=* | --output_dir=*)
                printf '%s' "${COMP_WORDS[i]#*=}"
                return ;;
        esac
    done
    printf runs
}

__headway_offer() { # what, the word so far
    local dir one
    case "$1" in
        @runs)
            dir=$(__headway_output_dir)
            for one in "$dir"/*/plan.json "$dir"/*/watched.json; do
                one=${one%/*}
                one=${one##*/}
                if [ "$one" != "*" ] && [[ "$one" == "$2"* ]]; then
                    COMPREPLY+=("$(printf '%q' "$one")")
                fi
            done ;;
        @folders | @files)
            if [ "$1" = @files ]; then set -- -f "$2"; else set -- -d "$2"; fi
            compopt -o filenames 2>/dev/null
            while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen "$1" -- "$2") ;;
        @nothing) ;;
        *) while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen -W "$1" -- "$2") ;;
    esac
}

__headway_takes() { # verb, option: what it takes; fails where it takes nothing
    case "$1:$2" in
%(takes)s
        *) return 1 ;;
    esac
}

__headway_options() { # verb
    case "$1" in
%(options)s
    esac
}

__headway_words() { # verb: what its words may be
    case "$1" in
%(words)s
    esac
}

_headway() {
    local current previous verb one takes
    COMPREPLY=()
    current=${COMP_WORDS[COMP_CWORD]}
    previous=${COMP_WORDS[COMP_CWORD - 1]}
    if [ "$current" = "=" ]; then
        current=
    elif [ "$previous" = "=" ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    verb=${COMP_WORDS[1]}
    if [ "$COMP_CWORD" -eq 1 ] || { [ "$verb" = help ] && [ "$COMP_CWORD" -eq 2 ]; }; then
        __headway_offer "%(verbs)s help --help --version" "$current"
        return
    fi
    case "$previous" in
        -*)
            previous=${previous//_/-}
            if takes=$(__headway_takes "$verb" "$previous"); then
                __headway_offer "$takes" "$current"
                return
            fi ;;
    esac
    case "$current" in
        -*) __headway_offer "$(__headway_options "$verb")" "$current" ;;
        *)
            for one in $(__headway_words "$verb"); do
                __headway_offer "${one//,/ }" "$current"
            done ;;
    esac
}

complete -F _headway headway
"""


def _bash(tables: list[Table]) -> str:
    takes: list[str] = []
    for one in tables:
        for option in one.options:
            if option.takes:
                patterns = " | ".join(f"{one.verb}:{name}" for name in option.names)
                takes.append(f"        {patterns}) echo {shlex.quote(option.takes)} ;;")
    options = [
        f"        {one.verb}) echo {shlex.quote(' '.join(_long_names(one)))} ;;" for one in tables
    ]
    kinds = [(one.verb, [w.replace(" ", ",") for w in one.words]) for one in tables]
    words = [f"        {verb}) echo {shlex.quote(' '.join(some))} ;;" for verb, some in kinds]
    return _filled(
        _BASH,
        takes="\n".join(takes),
        options="\n".join(options),
        words="\n".join(words),
        verbs=" ".join(one.verb for one in tables),
    )


def _filled(script: str, **parts: str) -> str:
    for name, text in parts.items():
        script = script.replace(f"%({name})s", text)
    return script


def _long_names(one: Table) -> list[str]:
    return [name for option in one.options for name in option.names]


# -- zsh -------------------------------------------------------------------------------------

_ZSH = r"""#compdef headway
# Completion of headway for zsh: source <(headway completion zsh)
__headway_runs() {
    local dir=runs i
    local -a names
    for ((i = 1; i < CURRENT; i++)); do
        case $words[i] in
            -o | --output-dir | --output_dir) dir=$words[i+1] ;;
            --output-dir=* | --output_dir=*) dir=${words[i]#*=} ;;
        esac
    done
    names=($dir/*/(plan|watched).json(N:h:t))
    compadd -a names
}

_headway() {
    local -a verbs
    verbs=(
%(verbs)s
    )
    if ((CURRENT == 2)); then
        _describe verb verbs
        return
    fi
    case $words[2] in
        help) _describe verb verbs ;;
%(cases)s
    esac
}

if [ "$funcstack[1]" = "_headway" ]; then
    _headway "$@"
else
    compdef _headway headway
fi
"""
_ZSH_ACTIONS = {_RUNS: "__headway_runs", _FOLDERS: "_files -/", _FILES: "_files", _NOTHING: " "}


def _zsh(tables: list[Table]) -> str:
    verbs = [f"        {shlex.quote(f'{one.verb}:{_plain(one.help)}')}" for one in tables]
    cases: list[str] = []
    for one in tables:
        specs = [spec for option in one.options for spec in _zsh_specs(option)]
        actions = [_zsh_action(word) for word in one.words]
        if len(actions) == 1:
            specs.append(f"*:word:{actions[0]}")
        elif actions:
            each = " ".join(f'"{n}:word:{action}"' for n, action in enumerate(actions))
            specs.append(f"*:word:{{ _alternative {each} }}")
        quoted = " \\\n            ".join(shlex.quote(spec) for spec in specs)
        cases.append(
            f"        {one.verb})\n            shift words; ((CURRENT--))\n"
            f"            _arguments -s -S : \\\n            {quoted} ;;"
        )
    return _filled(_ZSH, verbs="\n".join(verbs), cases="\n".join(cases))


def _zsh_specs(option: Option) -> list[str]:
    text = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    value = f":value:{_zsh_action(option.takes)}" if option.takes else ""
    return [
        f"*{name}{'=' if value and name.startswith('--') else '+' if value else ''}[{text}]{value}"
        for name in option.names
    ]


def _zsh_action(takes: str) -> str:
    return _ZSH_ACTIONS.get(takes) or f"({takes})"


def _plain(text: str) -> str:
    return text.replace(":", ",")


# -- fish ------------------------------------------------------------------------------------

_FISH = r"""# Completion of headway for fish: headway completion fish | source
function __headway_runs
    set -l dir runs
    set -l typed (commandline -opc)
    for i in (seq (count $typed))
        if contains -- $typed[$i] -o --output-dir --output_dir
            set dir $typed[(math $i + 1)]
        end
    end
    for plan in $dir/*/{plan,watched}.json
        basename (dirname $plan)
    end
end

complete -c headway -f
complete -c headway -n __fish_use_subcommand -a help -d 'explain a verb'
"""
_FISH_VALUES = {
    _RUNS: "-x -a '(__headway_runs)'",
    _FOLDERS: "-x -a '(__fish_complete_directories)'",
    _FILES: "-r -F",
    _NOTHING: "-x",
}


def _fish(tables: list[Table]) -> str:
    lines: list[str] = []
    for one in tables:
        about = _fish_quoted(one.help)
        lines.append(f"complete -c headway -n __fish_use_subcommand -a {one.verb} -d {about}")
        seen = f"complete -c headway -n '__fish_seen_subcommand_from {one.verb}'"
        lines += [f"{seen} {_fish_word(word)}" for word in one.words]
        for option in one.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            )
            value = ""
            if option.takes:
                value = " " + (
                    _FISH_VALUES.get(option.takes) or f"-x -a {_fish_quoted(option.takes)}"
                )
            lines.append(f"{seen} {names}{value} -d {_fish_quoted(option.help)}")
    return _FISH + "\n".join(lines) + "\n"


def _fish_word(word: str) -> str:
    if word == _FILES:
        return "-F"
    return f"-a {_fish_quoted('(__headway_runs)' if word == _RUNS else word)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
