from tests.diagnose.built import evidence, frame, locked, process, receiver, runner, sleeper, thread

from headway.diagnose.causes.roles import (
    collective_thread,
    computes,
    in_collective,
    is_idle_loader,
    is_launcher,
    is_loader,
    others_of,
    program,
    roles_of,
    spots,
    waits_at_lock,
    waits_for_data,
    who,
    working_threads,
)
from headway.diagnose.evidence.facts import Evidence, Frame, ProcessFacts

LOOP = "_worker_loop <site>/torch/utils/data/_utils/worker.py:349"
FETCHING = sleeper("Rows.__getitem__ data.py:5", LOOP)
IDLE = thread("Queue.get <std>/multiprocessing/queues.py:113", LOOP, call="poll")
NEXT = thread(
    "Queue.get <std>/multiprocessing/queues.py:113",
    "_try_get_data <site>/torch/utils/data/dataloader.py:1275",
    "train train.py:20",
    call="poll",
)
REDUCE = thread(
    "all_reduce <site>/torch/distributed/distributed_c10d.py:2806",
    "wrapper <site>/torch/distributed/c10d_logger.py:81",
    "step train.py:30",
    call="futex",
)
RUN = thread("Popen.wait <std>/subprocess.py:1264", "main run.py:3", call="wait4")


def pids(processes: tuple[ProcessFacts, ...]) -> list[int]:
    return [one.pid for one in processes]


def found(one: Evidence) -> list[tuple[int, int]]:
    return [(spot.process.pid, spot.thread.tid) for spot in spots(one)]


def test_a_server_that_forks_trainers_is_none_itself() -> None:
    command = ("python", "-P", "-m", "headway.training.worker", "--serve", "7")
    serve = Frame("serve", "/x/fork_server.py", 240, module="headway.base.host.fork_server")
    server = process(8, thread(serve, call="select"), command=command, parent=7)
    worker = process(9, runner(), command=command, parent=8)
    roles = roles_of(evidence(server, worker))
    assert (pids(roles.trainers), pids(roles.loaders)) == ([9], [])


def test_a_program_alone_is_the_trainer() -> None:
    assert pids(roles_of(evidence(process(7, runner()))).trainers) == [7]
    assert roles_of(evidence()).trainers == ()


def test_a_launcher_starts_trainers_and_those_start_loaders() -> None:
    shell = process(1, thread(call="wait4"), command=("bash", "run.sh"))
    torchrun = process(2, RUN, parent=1, command=("python", "torchrun"))
    workers = [process(10 * rank, NEXT, parent=2) for rank in (1, 2)]
    loaders = [process(10 * rank + 1, FETCHING, parent=10 * rank) for rank in (1, 2)]
    git = process(60, thread(call="read"), parent=10, command=("git", "status"))
    words = ("python", "-c", "from multiprocessing.resource_tracker import main")
    tracker = process(61, thread(), parent=10, command=words)
    roles = roles_of(evidence(shell, torchrun, *workers, *loaders, git, tracker))
    assert pids(roles.launchers) == [1, 2]
    assert pids(roles.trainers) == [10, 20]
    assert pids(roles.loaders) == [11, 21]
    assert pids(roles.loaders_of(workers[1])) == [21]


def test_processes_that_a_program_joins_are_the_trainers() -> None:
    join = thread("Popen.wait <std>/multiprocessing/popen_fork.py:43", "main a.py:3", call="wait4")
    one = evidence(process(1, join), process(2, REDUCE, parent=1), process(3, runner(), parent=1))
    assert pids(roles_of(one).trainers) == [2, 3]


def test_compilers_are_told_by_their_program() -> None:
    compiler = process(2, runner(), parent=1, command=("/usr/lib/gcc/cc1plus", "-quiet"))
    assert program(compiler) == "cc1plus"
    assert pids(roles_of(evidence(process(1, RUN), compiler)).compilers) == [2]


def test_somebody_is_the_trainer_even_if_all_only_wait_for_children() -> None:
    one = evidence(process(1, RUN), process(2, runner(), parent=1, command=("g++",)))
    assert pids(roles_of(one).trainers) == [1]


def test_what_only_serves_a_trainer_is_none() -> None:
    shell = process(1, thread(call="wait4"), command=("bash", "run.sh"))
    tee = process(3, thread(call="read", descriptor=0), parent=1, command=("tee", "train.log"))
    one = evidence(shell, process(2, sleeper(), parent=1), tee)
    assert pids(roles_of(one).trainers) == [2]
    ended = process(4, thread(state="Z"), parent=1, command=())
    assert found(evidence(shell, ended, process(2, sleeper(), parent=1))) == [(2, 2)]


def test_a_trainer_whose_stack_cannot_be_read_is_no_launcher() -> None:
    unread = process(1, thread(call="futex"), unread="ptrace_scope is 1")
    one = evidence(unread, process(2, thread(call="poll"), parent=1))
    assert pids(roles_of(one).trainers) == [1]
    assert pids(roles_of(one).loaders) == [2]


def test_a_pool_of_processes_is_waited_for() -> None:
    result = locked(
        "Condition.wait <std>/threading.py:327",
        "Future.result <std>/concurrent/futures/_base.py:451",
        "tokenize prepare.py:20",
    )
    manager = thread("wait_result <std>/concurrent/futures/process.py:415", call="poll")
    assert waits_for_data(process(7, result, manager))
    assert not waits_for_data(process(7, result, sleeper("fetch a.py:1")))
    worker = "_process_worker <std>/concurrent/futures/process.py:240"
    idle = thread("Queue.get <std>/multiprocessing/queues.py:103", worker, call="read")
    assert is_idle_loader(process(8, idle))
    works = process(9, sleeper("clean prepare.py:3", worker), parent=7)
    assert found(evidence(process(7, result, manager), process(8, idle, parent=7), works)) == [
        (9, 9)
    ]


def test_a_loop_of_events_waits_for_its_threads() -> None:
    loop = thread("EpollSelector.select <std>/selectors.py:468", call="epoll_wait")
    resolves = thread(
        "getaddrinfo <std>/socket.py:962", "run <std>/concurrent/futures/thread.py:58"
    )
    assert found(evidence(process(7, loop, resolves))) == [(7, 8)]
    assert found(evidence(process(7, loop, locked("f a.py:1")))) == [(7, 7)]


def test_who_trains_is_named_by_its_role() -> None:
    assert who(process(7, role="worker 2 of 4")) == "worker 2 of 4"
    assert who(process(7)) == "process 7"


def test_waits_of_processes() -> None:
    assert waits_for_data(process(7, NEXT))
    assert not waits_for_data(process(7, FETCHING))
    assert not waits_for_data(process(7, runner(*NEXT.frames)))
    assert in_collective(process(7, REDUCE))
    gloo = thread("gloo::waitRecv@/lib/libtorch.so", "step train.py:30", call="futex")
    assert collective_thread(process(7, gloo)) is not None
    assert not in_collective(process(7, NEXT))
    assert is_loader(process(7, FETCHING))
    assert is_idle_loader(process(7, IDLE))
    assert not is_idle_loader(process(7, FETCHING))
    assert is_launcher(process(7, RUN))
    assert not is_launcher(process(7, NEXT))
    assert computes(process(7, runner()))
    assert waits_at_lock(locked("f a.py:1"))


def test_whoever_takes_a_batch_waits_for_the_loaders_that_have_work() -> None:
    one = evidence(
        process(10, NEXT), process(11, IDLE, parent=10), process(12, FETCHING, parent=10)
    )
    assert found(one) == [(12, 12)]


def test_a_main_thread_at_a_lock_waits_for_the_threads_that_do_something() -> None:
    waits = locked(frame("f a.py:1", "with lock:"))
    one = process(7, waits, receiver("fetch a.py:5", name="fetcher"), locked("g a.py:9"))
    assert found(evidence(one)) == [(7, 8)]
    assert working_threads(process(7, waits, locked("g a.py:9")))[0].tid == 7
    assert [other.tid for other in others_of(one)] == [8, 9]
    assert found(evidence(process(7, runner(), receiver("f a.py:1")))) == [(7, 7)]


def test_workers_in_a_collective_wait_for_those_that_are_not() -> None:
    one = evidence(process(1, REDUCE), process(2, sleeper()), process(3, REDUCE))
    assert found(one) == [(2, 2)]
    assert found(evidence(process(1, REDUCE), process(3, REDUCE))) == [(1, 1), (3, 3)]
