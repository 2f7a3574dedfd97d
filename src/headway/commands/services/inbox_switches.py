"""Switches of `headway inbox`: the options of an inbox, and those of its verbs."""

from headway.config.command_line import Switch

# As in the section inbox: of headway.yaml, too.
OPTIONS = (
    *("on_duplicate", "priority", "train_between", "keep_models", "before_file", "after_file"),
    *("promote_if", "notify", "disk_budget", "nice", "gpu_memory", "give_way", "idle_minutes"),
)
SWITCHES = {
    "once": Switch("start: end when nothing is left to train"),
    "on_duplicate": Switch(
        "start: what to do with content that was trained before", "skip|train|fail", "skip"
    ),
    "train_between": Switch(
        "start: train only in these hours of the day, such as 22:00-07:00", "HOURS"
    ),
    "before_file": Switch(
        "start: back up the model before a file is trained on top of it",
        "nothing|backup",
        "nothing",
    ),
    "after_file": Switch("start: a line of the shell to run after each file", "COMMAND"),
    "notify": Switch(
        "start: post what became of each file to a webhook: Slack, Discord, ntfy", "URL"
    ),
    "disk_budget": Switch(
        "start: what all checkpoints may take; older models are deleted",
        "SIZE|none",
        "none",
    ),
    "nice": Switch("start: how much other programs come first, 0 to 19", "N", "0"),
    "gpu_memory": Switch("start: GPU memory that has to be free to begin a file", "SIZE"),
    "give_way": Switch(
        "start: save and wait while other programs compute on the GPU",
        "true|false",
        "false",
    ),
    "idle_minutes": Switch(
        "start: how long what the next file needs stays in memory without a file",
        "N",
        "10",
    ),
    "promote_if": Switch(
        "start: what current_model moves on for: kept, improved, nothing_forgotten, or several, "
        "joined by and",
        "TERMS",
        "kept",
    ),
    "keep_models": Switch(
        "start: how many models to keep; older checkpoints are deleted", "N|all", "all"
    ),
    "metrics_port": Switch("start: answer /metrics, /healthz and /progressz on 127.0.0.1", "PORT"),
    "print_systemd": Switch("start: print a unit for systemd, and start nothing"),
    "priority": Switch("start: names that come first, such as 'urgent-*,exam*'", "PATTERN"),
}
