"""Kills one of two workers midway, starts both again, and compares with an uninterrupted run.

    python tests/proofs/lost_worker.py

Two workers on loopback, float64, dropout, a checkpoint after every two steps. Once the chief is
killed and once the other; the survivor has to end by itself, and the second start to end as the
whole run.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS = 12


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(run):
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    job = str(Path(__file__).with_name("job.py"))
    often = ["--checkpoint_minutes=0", "--steps_per_execution=2", f"--epochs={EPOCHS}"]
    often.append("--dropout=0.25")
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [
                    *[sys.executable, job, "--strategy=multi_worker", f"--run={run}"],
                    *[*often, f"--out={run}-{index}.npz"],
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"TF_CONFIG": json.dumps(task), "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
        )
    return processes


def finish(run):
    for process in start(run):
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(errors[-2000:])
    return np.load(f"{run}-0.npz")


def kill_one(run, victim):
    processes = start(run)
    while not list((run / "checkpoints").glob("epoch_0003_step_*.npz")):
        time.sleep(0.05)
        if None not in [process.poll() for process in processes]:
            sys.exit("both have ended by themselves")
    processes[victim].kill()
    begun = time.monotonic()
    _, errors = processes[1 - victim].communicate()
    seconds = time.monotonic() - begun
    processes[victim].communicate()
    if seconds > 60 or processes[1 - victim].returncode != 1:
        sys.exit("the other did not end as it should")
    print(f"worker {victim} killed; the other ended after {seconds:.0f} s with status", end=" ")
    print(f"{processes[1 - victim].returncode} and: {errors.strip().splitlines()[-1]}", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        whole = finish(Path(folder) / "whole")
        for victim in (1, 0):
            run = Path(folder) / f"killed{victim}"
            kill_one(run, victim)
            resumed = finish(run)
            same = [np.array_equal(resumed[key], whole[key]) for key in whole.files]
            print(f"history and weights: {sum(same)} of {len(same)} arrays the same", flush=True)
            if not all(same):
                sys.exit(1)


if __name__ == "__main__":
    main()
