"""Switches of `headway inbox`: the options of an inbox, and those of its verbs."""

from headway.config.command_line import Switch

# As in the section inbox: of headway.yaml, too.
OPTIONS = (
    *("on_duplicate", "priority", "train_between", "keep_models", "before_file", "after_file"),
    *("promote_if", "notify", "disk_budget", "nice", "gpu_memory", "give_way", "idle_minutes"),
)
SWITCHES = {
    "once": Switch("start: exit when nothing is left to train"),
    "on_duplicate": Switch(
        "start: what to do with content that has been trained before", "skip|train|fail", "skip"
    ),
    "train_between": Switch("start: train only during these hours, such as 22:00-07:00", "HOURS"),
    "before_file": Switch(
        "start: back up the model before training each file",
        "nothing|backup",
        "nothing",
    ),
    "after_file": Switch("start: a shell command to run after each file", "COMMAND"),
    "notify": Switch(
        "start: post what happened to each file to a webhook: Slack, Discord, ntfy", "URL"
    ),
    "disk_budget": Switch(
        "start: disk space for all checkpoints; older models are deleted",
        "SIZE|none",
        "none",
    ),
    "nice": Switch("start: how much to give way to other programs, 0 to 19", "N", "0"),
    "gpu_memory": Switch("start: GPU memory that must be free to begin a file", "SIZE"),
    "give_way": Switch(
        "start: save and wait while other programs compute on the GPU",
        "true|false",
        "false",
    ),
    "idle_minutes": Switch(
        "start: minutes without a file until memory kept for the next one is freed",
        "N",
        "10",
    ),
    "promote_if": Switch(
        "start: what a run must be to become current_model: kept, improved, nothing_forgotten, "
        "or several, joined by and",
        "TERMS",
        "kept",
    ),
    "keep_models": Switch(
        "start: number of models to keep; older checkpoints are deleted", "N|all", "all"
    ),
    "metrics_port": Switch("start: serve /metrics, /healthz and /progressz on 127.0.0.1", "PORT"),
    "print_systemd": Switch("start: print a systemd unit, and start nothing"),
    "priority": Switch("start: names to train first, such as 'urgent-*,exam*'", "PATTERN"),
}
