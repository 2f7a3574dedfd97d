"""Peak training memory by component.

A step's memory peaks at one of three moments: when a micro-batch's loss is computed and all its
saved activations exist; when its backward pass ends and all its gradients exist; and when these
are added to the sums of earlier micro-batches.
"""

from dataclasses import dataclass

from headway.data.formats.records import DataKind
from headway.data.survey.result import Lengths
from headway.model.sizes import (
    NF4_BYTES,
    MicroBatchSize,
    ModelShape,
    backward_bytes,
    peak_bytes,
)
from headway.planning.compute import Compute, KnownMachine
from headway.planning.learning import optimizer_bytes
from headway.planning.step_layout import StepLayout
from headway.runs.plan import MemoryPlan, ModelPlan

ESTIMATE_ERROR = 0.15  # how far the estimated peak may be from the real one
_LIBRARY_BYTES = 45_000_000  # of libraries' code and buffers, loaded by the first matrix product
# On a processor, bf16 products are compiled per shape and cached: at most this many, of this size.
MAX_COMPILED_PRODUCTS = 1024
_COMPILED_PRODUCT_BYTES = 330_000
_PRODUCTS_PER_RUN = 100  # text: all rows have the same length
_PRODUCTS_PER_MICRO_BATCH = 60  # conversations: lengths differ
_WRITTEN_BYTES = 64_000_000  # of moments in shards, copied and made a file of at a time
_WORKSPACE_BYTES = 40_000_000  # of cuBLAS, in a GPU's memory
_LORA_PRODUCTS = 3  # times as many: each layer's product comes with two small ones


@dataclass(frozen=True)
class MemoryInputs:
    """What peak memory depends on.

    Attributes:
        model: its parameters.
        optim: the optimizer.
        shape: of the model.
        compute: device and number format.
        kind: of the data.
        lengths: of the rows, in tokens.
        untrained: share of the input tokens without a trained target.
        step_tokens: input tokens of a full step, about.
        num_steps: steps of the run.
        layout: leaves, micro-batches and prefix sharing.
        checkpointing: layers are recomputed in the backward pass.
    """

    model: ModelPlan
    optim: str
    shape: ModelShape
    compute: Compute
    kind: DataKind
    lengths: Lengths
    untrained: float
    step_tokens: int
    num_steps: int
    layout: StepLayout
    checkpointing: bool

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimizer's state, of all shards together."""
        return optimizer_bytes(self.optim, self.model)

    @property
    def leaf_tokens(self) -> int:
        """Tokens computed for a leaf, about."""
        return -(-self.layout.computed_tokens(self.step_tokens) // self.layout.leaves)

    @property
    def work(self) -> MicroBatchSize:
        """The largest micro-batch; a row longer than `micro_batch_tokens` is one by itself."""
        longest = self.lengths.max
        tokens = max(longest, min(self.layout.micro_batch_tokens, self.leaf_tokens))
        is_one_length = self.kind == "text" or longest >= tokens
        return MicroBatchSize(
            tokens=tokens,
            trained=round(tokens * (1 - self.untrained)),
            document=longest if is_one_length else round(self.lengths.p95),
            value_bytes=self.compute.value_bytes,
            frozen=self.model.lora is not None,
            checkpointed=self.checkpointing,
            flash=self.compute.device == "cuda" and self.compute.value_bytes == 2,
            in_4bit=self.model.load_in_4bit,
        )

    @property
    def frozen_bytes(self) -> int:
        """Of frozen weights, as they are computed with."""
        if self.model.lora is None:
            return 0
        value_bytes, num = self.compute.value_bytes, self.model.parameters
        if not self.model.load_in_4bit:
            return value_bytes * num
        in_4bit = min(self.shape.quantizable, num)
        return round(NF4_BYTES * in_4bit) + value_bytes * (num - in_4bit)

    @property
    def loading_bytes(self) -> int:
        """Of frozen weights while they are loaded and tried.

        Computing in bf16, weights that are stored in 16 bits stay so, and a layer at a time is
        widened for the trials in fp32. Others load as fp32, beside which bf16 keeps its rounded
        weights until the trials are done. On a processor, files are mapped while they are read.
        In 4 bits, each weight is quantized as soon as it is there.
        """
        if self.model.lora is None:
            return 0
        num, shape, stored = self.model.parameters, self.shape, _stored_bytes(self.model)
        in_4bit = min(shape.quantizable, num) if self.model.load_in_4bit else 0
        beside, codes = num - in_4bit, round(NF4_BYTES * in_4bit)
        is_held_narrow = stored == 2 and self.compute.value_bytes == 2
        each = 2 if is_held_narrow else 4
        mapped = stored * num if self.compute.device == "cpu" and (stored == 2 or in_4bit) else 0
        layer = max(shape.linear, num - 2 * shape.vocab * shape.hidden) // shape.layers
        layer = shape.largest_weight if in_4bit else layer
        trying = 4 * max(layer, shape.vocab * shape.hidden) if is_held_narrow else 0
        if self.compute.value_bytes == 2 and not is_held_narrow:
            trying = 2 * beside
        return codes + each * beside + max(mapped, trying)


def estimate_memory(inputs: MemoryInputs, facts: KnownMachine) -> MemoryPlan:
    """Peak memory of the trainer, part by part, with the snapshot for saving."""
    if inputs.compute.is_sharded:
        return _estimate_shards(inputs, facts)
    model, shape, value_bytes = inputs.model, inputs.shape, inputs.compute.value_bytes
    trainable, embedding = model.trainable, 0
    if not model.lora:
        embedding = shape.vocab * shape.hidden  # looked up in fp32
    # A tied embedding is also the head, and as such has a bf16 copy.
    copied = trainable - (0 if shape.tied else embedding) if value_bytes == 2 else 0
    # Partial sums waiting for their partner, one per level of the tree.
    waiting = 4 * trainable * (inputs.layout.leaves.bit_length() - 1)
    accumulates = 1.1 * inputs.leaf_tokens > inputs.layout.micro_batch_tokens
    summed = 4 * trainable if accumulates else 0  # gradients of earlier micro-batches
    work = inputs.work
    own = 4 * trainable if value_bytes == 4 and not accumulates else 0
    if value_bytes == 2:
        own = 2 * copied + 4 * embedding
    moments = (
        (summed, peak_bytes(shape, work)),
        (summed + own, backward_bytes(shape, work)),
        (4 * trainable + (2 * copied if accumulates else 0), 0),
    )
    gradients, activations = max(moments, key=sum)
    on_cpu = inputs.compute.device == "cpu"
    process = facts.process_bytes + _library_bytes(inputs) if on_cpu else _WORKSPACE_BYTES
    weights = 4 * trainable + 2 * copied + inputs.frozen_bytes
    optimizer = inputs.optimizer_bytes
    snapshot = 4 * trainable + optimizer
    tree = inputs.compute.workers
    num, sums = tree.workers, 0
    if num > 1:  # each has all of it but the snapshot; their sums of gradients are shared
        waiting = 4 * trainable * (inputs.layout.leaves // num or 1).bit_length()
        sums = 4 * trainable * (tree.most_nodes(inputs.layout.leaves) + 1)
    training = weights + waiting + gradients + optimizer + activations
    saving = snapshot if on_cpu else 0  # else it is in the host's memory
    return MemoryPlan(
        process=num * process,
        weights=num * weights,
        gradients=num * (waiting + gradients) + sums,
        optimizer=num * optimizer,
        activations=num * activations,
        peak=num * process + max(num * training + sums + saving, num * inputs.loading_bytes),
        snapshot=saving,
        free=facts.free_bytes,
        host=0 if on_cpu else num * facts.process_bytes + snapshot,
    )


def _stored_bytes(model: ModelPlan) -> int:
    """Bytes of a weight in the files of a model; by its config where these were not read."""
    if model.stored_bytes:
        return model.stored_bytes
    dtype = model.config.get("dtype", model.config.get("torch_dtype"))
    return 4 if dtype in (None, "float32") else 2


def _estimate_shards(inputs: MemoryInputs, facts: KnownMachine) -> MemoryPlan:
    """Peak memory of all workers that hold a model in shards.

    A layer is whole while it runs, and so are the next one, the copy that it is gathered in, and
    the embedding and the head all along. A new model is drawn whole, once to train it and once more
    at the end to compare. A tensor at a time is gathered to be saved.
    """
    model, shape, value_bytes = inputs.model, inputs.shape, inputs.compute.value_bytes
    num, shards = inputs.compute.workers.workers, inputs.compute.num_shards
    outside = shape.vocab * shape.hidden * (1 if shape.tied else 2)
    layer = max(model.parameters - outside, 0) // shape.layers
    held = 4 * (model.parameters + (model.trainable if model.lora else 0)) // shards
    passing = (0 if model.lora else value_bytes + 4) * max(layer, outside)
    gradients = 4 * model.trainable // shards + passing
    optimizer = inputs.optimizer_bytes // shards
    work = inputs.work
    activations = peak_bytes(shape, work)
    activations += value_bytes * (outside + 3 * layer)
    snapshot = _WRITTEN_BYTES + 4 * shape.vocab * shape.hidden
    made = 4 * (model.parameters if model.source == "preset" else max(layer, outside)) + held
    on_cpu = inputs.compute.device == "cpu"
    process = facts.process_bytes + (_library_bytes(inputs) if on_cpu else 0)
    training = held + gradients + optimizer + activations
    saving = held + optimizer + snapshot
    return MemoryPlan(
        process=num * process,
        weights=num * held,
        gradients=num * gradients,
        optimizer=num * optimizer,
        activations=num * activations,
        peak=num * (process + max(training, saving, held + made)),
        snapshot=num * snapshot,
        free=facts.machine.memory_free_bytes if on_cpu else 0,
    )


def _library_bytes(inputs: MemoryInputs) -> int:
    """What libraries take once they compute."""
    if inputs.compute.value_bytes == 4:
        return _LIBRARY_BYTES
    products = _PRODUCTS_PER_RUN
    if inputs.kind != "text":
        micro_batches = -(-inputs.step_tokens // inputs.layout.micro_batch_tokens)
        products = _PRODUCTS_PER_MICRO_BATCH * micro_batches * inputs.num_steps
    products *= _LORA_PRODUCTS if inputs.model.lora else 1
    return _LIBRARY_BYTES + _COMPILED_PRODUCT_BYTES * min(products, MAX_COMPILED_PRODUCTS)
