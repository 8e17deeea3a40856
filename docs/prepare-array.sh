#!/bin/bash
# Prepares a text in parts, one for each task of a SLURM array, and joins them once all are there:
#
#   sbatch --array=1-8 docs/prepare-array.sh data.files='corpus/**' model=gpt2
#
# parts/ has to lie on a disk of all nodes, and so has LMTUNE_CACHE for the training that follows. The arguments are those of
# that training: its data= and model=. A task that failed or was preempted is started again; parts that are there are kept.
#SBATCH --job-name=prepare --ntasks=1 --cpus-per-task=8 --time=04:00:00 --requeue --output=prepare-%A-%a.log

task=$SLURM_ARRAY_TASK_ID
if [ -n "$task" ]; then
    if [ "$task" = "$SLURM_ARRAY_TASK_MIN" ]; then # one job, without an array, that waits for all tasks
        sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --kill-on-invalid-dep=yes "$0" "$@"
    fi
    srun lmtune data "shard=$task/$SLURM_ARRAY_TASK_COUNT" "output=parts/$task" "$@"
else
    srun lmtune data merge=parts "$@"
fi
