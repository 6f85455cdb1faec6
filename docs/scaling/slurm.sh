#!/usr/bin/env bash
# sbatch docs/scaling/slurm.sh configs/200k.py runs/200k-slurm      one process for each GPU
#SBATCH --job-name=cifar_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
config=${1:?usage: sbatch slurm.sh CONFIG WORKDIR} workdir=${2:?usage: sbatch slurm.sh CONFIG WORKDIR}

# The data set once, before several processes look for it.
srun --nodes=1 --ntasks=1 python main.py data || exit 1

# --signal reaches the processes, which save and end with 143. Then the job queues itself again and goes on.
srun python main.py --config "$config" --workdir "$workdir" --distributed --require-gpu
status=$?
[ $status -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit $status
