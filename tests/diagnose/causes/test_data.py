from tests.diagnose.built import (
    connection,
    evidence,
    frame,
    locked,
    process,
    pulse,
    receiver,
    runner,
    sleeper,
    texts,
    thread,
)

from headway.diagnose.causes.data import (
    find_first_bytes,
    find_loader_dead,
    find_loader_frozen,
    find_slow_source,
    find_tokenizer,
)
from headway.diagnose.diagnosis import Helps, StallCause
from headway.diagnose.evidence.facts import Link, OpenFile

LOOP = "_worker_loop <site>/torch/utils/data/_utils/worker.py:349"
FETCHING = sleeper("Rows.__getitem__ data.py:5", LOOP)
IDLE = thread("Queue.get <std>/multiprocessing/queues.py:113", LOOP, call="poll")
NEXT = thread(
    "Queue.get <std>/multiprocessing/queues.py:113",
    "_try_get_data <site>/torch/utils/data/dataloader.py:1275",
    "train train.py:20",
    call="poll",
)
GET = thread(
    "Connection._recv <std>/multiprocessing/connection.py:395",
    "Queue.get <std>/multiprocessing/queues.py:103",
    "next_batch train.py:14",
    call="read",
    descriptor=3,
)
BODY = receiver(
    "SocketIO.readinto <std>/socket.py:706",
    "HTTPResponse.read <std>/http/client.py:466",
    "read_rows train.py:20",
)
HEAD = receiver(
    "SocketIO.readinto <std>/socket.py:706",
    "HTTPResponse._read_status <std>/http/client.py:286",
    "HTTPResponse.begin <std>/http/client.py:325",
    "open_stream train.py:20",
)


# -- loaders


def test_a_process_that_has_ended_fills_no_queue() -> None:
    dead = process(8, thread(state="Z"), parent=7, command=())
    found = find_loader_dead(evidence(process(7, GET), dead))
    assert found is not None
    assert (found.cause, found.pid, found.helps) == (StallCause.LOADER_DEAD, 8, Helps.RESTART)
    assert "process 8 has ended (state Z)" in found.finding.have
    assert "next_batch (train.py:14)" in found.finding.have
    gone = find_loader_dead(evidence(process(7, GET)))
    assert gone is not None
    assert "none of its children is running" in gone.finding.have


def test_a_loader_that_has_work_is_waited_for_whoever_else_has_ended() -> None:
    dead = process(9, thread(state="Z"), parent=7, command=())
    works = process(8, FETCHING, parent=7)
    assert find_loader_dead(evidence(process(7, NEXT), works, dead)) is None
    assert find_loader_dead(evidence(process(7, NEXT), works)) is None
    idle = process(8, IDLE, parent=7)
    assert find_loader_dead(evidence(process(7, NEXT), idle, dead)) is not None
    assert find_loader_dead(evidence(process(7, runner()), dead)) is None, "nobody waits for it"


def test_a_stopped_loader_is_told_to_go_on() -> None:
    stopped = process(8, thread(*FETCHING.frames, state="T"), parent=7)
    found = find_loader_frozen(evidence(process(7, NEXT), process(9, IDLE, parent=7), stopped))
    assert found is not None
    assert (found.cause, found.pid) == (StallCause.LOADER_FROZEN, 8)
    assert "stopped (SIGSTOP)" in found.finding.have
    assert found.finding.remedies[0].do == "kill -CONT 8"


def test_a_stopped_loader_whose_stack_cannot_be_read() -> None:
    stopped = process(8, thread(state="T"), parent=7)
    found = find_loader_frozen(evidence(process(7, NEXT), stopped))
    assert found is not None
    assert found.pid == 8


def test_a_loader_at_a_lock_that_was_copied_by_fork() -> None:
    stuck = process(8, locked(frame("Rows.__getitem__ data.py:9", "with cache:"), LOOP), parent=7)
    found = find_loader_frozen(evidence(process(7, NEXT), stuck))
    assert found is not None
    assert "the lock `cache` in Rows.__getitem__ (data.py:9)" in found.finding.have
    assert "multiprocessing_context='spawn'" in texts(found)


def test_a_loader_in_compiled_code_that_fork_has_broken() -> None:
    waits = thread("do_wait@/lib/libgomp.so.1", "Rows.__getitem__ data.py:9", LOOP, call="futex")
    found = find_loader_frozen(evidence(process(7, NEXT), process(8, waits, parent=7)))
    assert found is not None
    assert "it waits in do_wait, called by Rows.__getitem__ (data.py:9)" in found.finding.have
    works = process(8, waits, parent=7, cpu=0.4)
    assert find_loader_frozen(evidence(process(7, NEXT), works)) is None, "its threads compute"


def test_loaders_that_all_wait_to_be_asked() -> None:
    idle = [process(pid, IDLE, parent=7) for pid in (8, 9)]
    assert find_loader_frozen(evidence(process(7, NEXT), *idle)) is not None
    assert find_loader_frozen(evidence(process(7, runner()), *idle)) is None


def test_a_loader_that_is_merely_slow_is_not_accused() -> None:
    slow = evidence(process(7, NEXT), process(8, FETCHING, parent=7))
    assert find_loader_frozen(slow) is None
    found = find_slow_source(slow)
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.SLOW_SOURCE, Helps.PATIENCE)
    assert "process 7 waits for it" in found.finding.have
    assert "num_workers=4" in found.finding.remedies[-1].do
    computes = evidence(process(7, NEXT), process(8, runner(LOOP), parent=7))
    assert find_loader_frozen(computes) is None
    assert find_slow_source(computes) is None


# -- tokenizers

ENCODES = runner(
    "onig_search@/site-packages/tokenizers/tokenizers.abi3.so",
    "tokenize prepare.py:20",
)
ROWS = OpenFile(4, Link.FILE, "/data/rows.jsonl", line=42)


def test_a_line_that_keeps_a_tokenizer_busy_is_named() -> None:
    found = find_tokenizer(evidence(process(7, ENCODES, open_files=(ROWS,)), silent_s=20.0))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.TOKENIZER, Helps.PERSON)
    assert "/data/rows.jsonl:42" in found.finding.what
    assert "20 s" in found.finding.what
    assert "sed -n '42p' /data/rows.jsonl" in texts(found)


def test_a_tokenizer_written_in_python() -> None:
    nltk = runner("word_tokenize <site>/nltk/tokenize/__init__.py:129", "tokenize prepare.py:20")
    found = find_tokenizer(evidence(process(7, nltk), silent_s=20.0))
    assert found is not None
    assert "tokenize (prepare.py:20)" in found.finding.have


def test_the_pulse_says_which_record_it_is() -> None:
    reads = pulse(pid=7, phase="tokenizing", done=1233, unit="records")
    found = find_tokenizer(evidence(process(7, ENCODES), pulses=(reads,), silent_s=20.0))
    assert found is not None
    assert "records 1,234" in found.finding.what


def test_a_tokenizer_that_gets_on_is_not_accused() -> None:
    assert find_tokenizer(evidence(process(7, ENCODES))) is None
    assert find_tokenizer(evidence(process(7, ENCODES), silent_s=1.0)) is None
    assert find_tokenizer(evidence(process(7, runner()), silent_s=20.0)) is None


# -- sources


def test_the_first_bytes_of_a_stream() -> None:
    found = find_first_bytes(evidence(process(7, HEAD, open_files=(connection(),)), silent_s=5.0))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.FIRST_BYTES, Helps.PATIENCE)
    assert "from 10.0.0.7:443" in found.finding.what
    assert "open_stream (train.py:20)" in found.finding.have
    assert "silent for 5.0 s" in found.finding.have
    assert find_first_bytes(evidence(process(7, BODY))) is None


def test_a_stream_that_comes_slowly() -> None:
    found = find_slow_source(evidence(process(7, BODY, open_files=(connection(),))))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.SLOW_SOURCE, Helps.PATIENCE)
    assert "10.0.0.7:443" in found.finding.what
    assert "read_rows (train.py:20)" in found.finding.have
    said = " ".join(remedy.do for remedy in found.finding.remedies)
    assert "num_workers" not in said, "there is no DataLoader"


def test_a_stream_that_a_loop_of_events_receives() -> None:
    asks = locked(
        frame("Condition.wait <std>/threading.py:331", "waiter.acquire(True, timeout)"),
        "sync <site>/fsspec/asyn.py:95",
        "read_rows train.py:20",
    )
    loop = thread("EpollSelector.select <std>/selectors.py:468", call="epoll_wait")
    found = find_slow_source(evidence(process(7, asks, loop, open_files=(connection(),))))
    assert found is not None
    assert "10.0.0.7:443" in found.finding.what
    assert "called from read_rows (train.py:20)" in found.finding.have
    assert find_slow_source(evidence(process(7, asks, loop))) is None, "connected to nobody"


def test_a_pipe_that_comes_slowly() -> None:
    piped = thread("read_rows train.py:20", call="read", descriptor=4)
    assert find_slow_source(evidence(process(7, piped))) is not None
    queue = thread(*GET.frames, call="read", descriptor=4)
    assert find_slow_source(evidence(process(7, queue))) is None
    assert find_slow_source(evidence(process(7, runner()))) is None
