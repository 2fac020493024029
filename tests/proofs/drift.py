"""How far two replicas and one device drift apart, step by step, in float64 and float32.

    python tests/proofs/drift.py .figures/drift.png

Every epoch is one step of 16 random faces. Two logical CPU devices under MirroredStrategy are
compared with one device: the largest difference of any weight, and the difference of the loss.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

STEPS = 30

#: Okabe and Ito's blue and vermilion, which the colour-blind tell apart.
COLOURS = {"float64": "#0072b2", "float32": "#d55e00"}


def job(out, *arguments):
    command = [sys.executable, str(Path(__file__).with_name("job.py")), f"--out={out}", "--trace"]
    size = [f"--epochs={STEPS}", "--images=16", "--batch_size=16"]
    subprocess.run([*command, *size, *arguments], check=True, capture_output=True)
    return np.load(out)


def main(target):
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float64", "float32"):
            one = job(Path(folder) / "one.npz", f"--precision={precision}")
            two = job(
                Path(folder) / "two.npz",
                f"--precision={precision}",
                "--strategy=mirrored",
                "--logical_devices=2",
            )
            weights = np.abs(one["trace"] - two["trace"]).max(axis=1)
            loss = np.abs(one["history"][:, 2] - two["history"][:, 2])
            steps = np.arange(1, STEPS + 1)
            colour = COLOURS[precision]
            axes.semilogy(steps, weights, color=colour, label=f"weights, {precision}")
            smallest = np.maximum(loss, 1e-17)
            axes.semilogy(steps, smallest, "--", color=colour, label=f"loss, {precision}")
            for step in (1, 2, 5, 10, 20, 30):
                print(f"{precision} step {step}: {weights[step - 1]:.1e} {loss[step - 1]:.1e}")
    axes.set(xlabel="step", ylabel="largest difference")
    axes.set_title("Two replicas against one device", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
