#!/usr/bin/env bash
# Train one run on several machines with Slurm:
#
#   sbatch examples/slurm.sh runs/corpus data/ --preset base --max-steps 20000
#
# The first argument is the run's folder; all others are those of `headway plan`. The folder, the
# token cache (~/.cache/headway, or $XDG_CACHE_HOME) and this environment must be the same on all
# machines. Ten minutes before its time limit, the job saves and requeues itself. Edit the lines
# below; HEADWAY_PER_NODE=8 in the environment means eight processes on each machine.

#SBATCH --job-name=headway
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=headway-%j.log

set -euo pipefail

run=${1:?usage: sbatch slurm.sh RUN DATA... [settings]}
shift

per_node=${HEADWAY_PER_NODE:-1}   # processes on each machine: one for each of its GPUs
threads=$((SLURM_CPUS_PER_TASK / per_node))
workers=$((SLURM_JOB_NUM_NODES * per_node))
mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${machines[0]}
port=$((20000 + SLURM_JOB_ID % 20000))

# Nothing is imported from the folder where the job was started.
export PYTHONSAFEPATH=1

# What the run reports: its newest attempt, and its exit code.
field() {
  headway status "$run" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"
}

# Once, by one process. A requeued job finds the plan here.
if [[ ! -e $run/plan.json ]]; then
  headway plan "$@" --save "$run" --nproc "$workers" --threads "$threads"
fi
attempt=$(field attempt)

# srun passes signals to torchrun, which passes them to the workers. They need the plan's grace_s
# (default: 10 seconds) to save; torchrun kills whatever is still running after its own limit.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 \
  torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$per_node" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-endpoint "$first:$port" \
  --rdzv-id "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 300 \
  -m headway.training.worker "$run" &
steps=$!
trap 'kill -USR1 "$steps"' USR1

code=0
wait "$steps" || code=$?
while kill -0 "$steps" 2>/dev/null; do # it was the signal that ended the wait
  code=0
  wait "$steps" || code=$?
done

# torchrun exits with 1 whatever its workers exited with; the run knows the code, if it started.
if [[ $(field attempt) != "$attempt" && $(field exit_code) != None ]]; then
  code=$(field exit_code)
fi
if [[ $code == 75 ]]; then
  echo "saved; back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
