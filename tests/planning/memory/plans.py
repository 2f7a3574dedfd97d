"""Plans of one model, and machines with little memory."""

from dataclasses import replace
from typing import Any

from tests.helpers import HERE, TINY, in_memory, llama, settings

from headway.model.sizes import shape_of
from headway.planning.compute import KnownMachine
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.runs.plan import Plan

CONFIG = llama(hidden_size=512, intermediate_size=2048, num_hidden_layers=8)
FOLDER = InitialModel("folder", "base", "/base", CONFIG, parameters=shape_of(CONFIG).parameters)
TEXT = in_memory(40_001)
PLAIN = {"bf16": False, "gradient_checkpointing": False}


def planned(start: InitialModel = TINY, here: KnownMachine = HERE, **given: Any) -> Plan:
    return decide(settings(**given), ("notes.txt",), TEXT, start, here)


def with_free(num_bytes: int) -> KnownMachine:
    return replace(HERE, machine=replace(HERE.machine, memory_free_bytes=num_bytes))
