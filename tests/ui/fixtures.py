"""Plans, receipts, pulses and events with plausible numbers, for the screens' tests."""

from dataclasses import replace
from typing import Any

from headway.base.errors import Finding, Remedy
from headway.base.events import Event, LogEntry, StepDone
from headway.base.pulse import PulseReading
from headway.data.survey.result import Lengths
from headway.runs import plan as p
from headway.runs import receipt as r
from headway.supervise.progress import SCHEMA as STATUS_SCHEMA
from headway.supervise.progress import Status
from headway.supervise.stalls.note import StallStatus
from headway.ui.styled import StyledLine

WIDTHS = (40, 60, 80, 100, 120)
ADJUSTED = Finding(
    "adjusted",
    "batch_size 32 -> 12, so that there is a step to take",
    have="1,598 tokens, 12 rows of max_length 128",
    need="32 rows for one step of batch_size 32",
    remedies=(Remedy("--batch-size 4", "3 steps of 4 rows"),),
)
WARNING = Finding(
    "warning",
    "1,598 tokens for 3.0 M weights: it will repeat your text",
    remedies=(Remedy("--val-size 0.1", "tells from when on it only memorises"),),
)


def conversations_plan(**changes: Any) -> p.Plan:
    """LoRA on 19,900 conversations, continuing another run: 2,488 -> 4,976."""
    plan = p.Plan(
        schema=p.SCHEMA,
        version="0.1.0",
        name="support-b",
        identity="9f" * 32,
        data=p.DataPlan(
            kind="conversations",
            sources=("data/support-b.jsonl",),
            store="/cache/stores/9f9f",
            fingerprint="ab" * 32,
            tokenizer="cd" * 32,
            tokenizer_from="models/qwen-0.5b, 151,936 tokens",
            template="ef" * 32,
            records=p.RecordLedger(20_012, {"not JSON": 9, "no trained token": 3}, 20_000),
            rows=p.RowLedger(20_000, 100, 19_900, 0, 19_900, 1234567),
            bytes=8_400_000,
            tokens=680_000,
            trained_tokens=410_000,
            lengths=Lengths(34.0, 31.0, 62.0, 112),
            max_length=128,
            truncated=0,
            padding_to_max=0.97,
            padding_to_longest=0.41,
            padding=0.0,
            untrained=0.397,
            marked_example=(
                "<|im_start|>user\nMy order has not arrived.<|im_end|>\n<|im_start|>assistant\n"
                "«I am sorry to hear that. Could you give me its number?<|im_end|>»"
            ),
        ),
        model=p.ModelPlan(
            source="run",
            name="runs/support-a",
            path="runs/support-a/checkpoint-2488",
            config={"model_type": "qwen2"},
            weights_sha256="31" * 32,
            vocab_size=151_936,
            context=32_768,
            parameters=494_032_768,
            trainable=8_798_208,
            trust_remote_code=False,
            lora=p.LoraPlan(16, 32.0, 0.0, ("all-linear",)),
            parent=p.Parent("support-a", "runs/support-a/checkpoint-2488", 2488, "77" * 32, True),
        ),
        steps=p.StepsPlan(2488, 2488, 2488, 1.0, 8, 4, 272, 1, 2048),
        learning=p.LearningPlan("adamw", 2e-4, "cosine", 74, 0.1, 0.9, 0.95, 1e-8, 1.0),
        saves=p.SavesPlan(500, 10.0, 2, 5, 105_600_000),
        evaluation=p.EvaluationPlan(64, 500, 0, (), 64),
        memory=p.MemoryPlan(
            412_000_000, 1_976_000_000, 35_200_000, 70_400_000, 310_000_000, 2_803_600_000
        ),
        time=p.TimePlan(4589.0, 725.0, 2.0e15),
        machine=p.MachinePlan("cpu", "no other device here", 2, 1, "float32", False, "a CPU"),
        seed=42,
        max_time_s=None,
        grace_s=10.0,
        settings=(
            p.Choice("model", "runs/support-a", "--continue"),
            p.Choice("max_length", 128, "auto", "the smallest that holds the longest, 112 tokens"),
            p.Choice("batch_size", 8, "--bs"),
            p.Choice("learning_rate", 2e-4, "auto", "LoRA"),
            p.Choice("num_train_epochs", 1.0, "default", "conversations are seen once"),
            p.Choice("lora.target_modules", ("all-linear",), "default"),
            p.Choice("bf16", False, "default"),
            p.Choice("max_steps", None, "default"),
        ),
        findings=(Finding("ok", "the disk takes 2 checkpoints"),),
    )
    return replace(plan, **changes)


def text_plan(**changes: Any) -> p.Plan:
    """A model from nothing on a file too short for the batch that was asked for."""
    base = conversations_plan()
    plan = replace(
        base,
        name="notes",
        data=replace(
            base.data,
            kind="text",
            sources=("notes.txt",),
            tokenizer_from="byte-level, 259 tokens",
            records=p.RecordLedger(1, {}, 1),
            rows=p.RowLedger(13, 0, 13, 0, 39, 7654321),
            bytes=1597,
            tokens=1598,
            trained_tokens=1597,
            lengths=Lengths(1598.0, 1598.0, 1598.0, 1598),
            padding_to_max=0.04,
            padding_to_longest=0.04,
            untrained=0.0,
            marked_example="«All happy families are alike; each unhappy family»",
        ),
        model=replace(
            base.model,
            source="preset",
            name="mini",
            parameters=3_049_920,
            trainable=3_049_920,
            lora=None,
            parent=None,
        ),
        steps=p.StepsPlan(0, 3, 1, 3.0, 12, 13, 1536, 4, 2048),
        saves=p.SavesPlan(3, 10.0, 2, 1, 36_600_000),
        evaluation=p.EvaluationPlan(13, 0, 1, ("The",), 64),
        time=p.TimePlan(None, None, 8.8e10),
        settings=(
            p.Choice("preset", "mini", "--preset"),
            p.Choice("batch_size", 12, "auto", "32 were asked for, the file has 12 full rows"),
            p.Choice("seed", 42, "default"),
        ),
        findings=(ADJUSTED, WARNING),
    )
    return replace(plan, **changes)


def receipt(**changes: Any) -> r.Receipt:
    """A job of 2,488 steps that kept its contract and learned."""
    value = r.Receipt(
        schema=r.SCHEMA,
        run="support-b",
        outcome="finished",
        plan="9f" * 32,
        at="2025-11-20T17:04:31.120+00:00",
        attempts=2,
        rows=r.ReceiptRows(
            read=20_012,
            rejected={"not JSON": 9, "no trained token": 3},
            accepted=20_000,
            held_out=100,
            planned=19_900,
            not_planned=0,
            trained=19_900,
            applications_planned=19_900,
            applications=19_900,
            missing=0,
            repeated=0,
            row_sum=1234567,
            row_sum_planned=1234567,
        ),
        tokens=r.ReceiptTokens(676_600, 407_950, 0, 0.0, 0, 0),
        steps=r.ReceiptSteps(2488, 4976, 2488, 2488),
        learning_facts=r.ReceiptLearning(
            train_probe=r.Loss(2.41, 1.37, 64, 0.04),
            held_out=r.Loss(2.44, 1.52, 100, 0.03),
            loss_first=2.45,
            loss_last=1.31,
            grad_norm_first=3.1,
            grad_norm_last=0.9,
            nonfinite_steps=0,
            tensors=r.TensorAudit(336, 336, 336, 0.034, (), ()),
        ),
        time=r.ReceiptTime(
            731.2,
            {"training": 701.4, "loading the model": 9.3, "saving": 6.1, "probing": 4.2},
            12.7,
            0.9,
            watching=0.25,
        ),
        speed=r.ReceiptSpeed(965.0, 582.0, 2.9e12, 0.34),
        plan_against_actual=r.PlanAgainstActual(
            r.EstimatedActual(725.0, 731.2),
            r.EstimatedActual(2_803_600_000, 2_650_000_000),
            r.EstimatedActual(0.0, 0.0),
        ),
        checkpoint=r.ReceiptCheckpoint("checkpoint-4976", "5e" * 32, 105_600_000),
        environment={"torch": "2.13.0"},
        contract=r.Judgment("kept", ()),
        learning=r.Judgment("improved", ("probe 2.41 -> 1.37",)),
        line=(
            "kept: 2,488 of 2,488 steps, 19,900 rows once each · "
            "improved: 2.41 -> 1.37 (held out 2.44 -> 1.52)"
        ),
    )
    return replace(value, **changes)


def pulse(**changes: Any) -> PulseReading:
    """A worker of rank 0 that began training at 100 s."""
    value = PulseReading(
        pid=4243,
        rank=0,
        attempt=1,
        phase="training",
        phase_since=100.0,
        waiting="",
        waiting_since=0.0,
        beat=1,
        updated=100.0,
        done=0,
        total=0,
        unit="",
        rows=0,
        tokens=0,
        skipped=0,
        step=0,
        steps=100,
        global_step=0,
        loss=0.0,
    )
    return replace(value, **changes)


def step_done(step: int, *, first: int = 0, loss: float = 2.5, seconds: float = 0.5) -> StepDone:
    """Step `step` of a job that began after global step `first`: 8 rows, 400 trained tokens."""
    return StepDone(step, first + step, 0, loss, 1.2, 2e-4, 8, 400, 512, 512, seconds)


def entry(event: Event, *, at_s: int = 0, attempt: int = 1) -> LogEntry:
    """An event `at_s` seconds (below an hour) after 16:00 on a day."""
    minutes, rest = divmod(at_s, 60)
    at = f"2025-11-20T16:{minutes:02}:{rest:02}.000+00:00"
    return LogEntry(at, float(at_s), attempt, 0, event)


def status(**changes: Any) -> Status:
    """Step 3 of 100."""
    value = Status(
        schema=STATUS_SCHEMA,
        run="notes",
        folder="runs/notes",
        state="training",
        phase="training",
        phase_since_s=192.0,
        waiting_for="",
        waiting_since_s=0.0,
        done=0,
        total=0,
        unit="",
        step=3,
        steps=100,
        global_step=3,
        target_global_step=100,
        loss=2.45,
        loss_average=2.61,
        tokens_per_second=4589.0,
        tokens=12_267,
        rows=96,
        skipped=12,
        seconds_left=243.0,
        last_news_s=0.1,
        attempt=1,
        pid=4242,
        exit_code=None,
        line="",
        held_out_first=2.44,
        held_out_last=1.52,
    )
    return replace(value, **changes)


def stall(**changes: Any) -> StallStatus:
    """A deadlock that was found twelve seconds ago."""
    value = StallStatus(
        cause="deadlock",
        what="it waits for a lock that it holds itself",
        have="in step.py:120",
        need="a lock that is taken once",
        tries=("headway diagnose notes --verbose",),
        is_stall=True,
        role="the trainer",
        since_s=12.0,
        then="",
        file="stall-1.txt",
    )
    return replace(value, **changes)


def texts(lines: list[StyledLine]) -> list[str]:
    """Lines without their styles."""
    return [line.text for line in lines]


def words_of(lines: list[str]) -> str:
    """What some lines say, however they are folded."""
    return " ".join(" ".join(lines).split())
