import os
import subprocess
import sys
from pathlib import Path

PROOF = Path(__file__).parents[1] / "proofs/export_race.py"


def test_a_training_and_two_exports_leave_a_true_manifest():
    # The whole proof has 50 rounds.
    paths = os.pathsep.join(filter(None, [str(PROOF.parents[2]), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, str(PROOF), "--rounds=2"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert result.stderr == ""
    assert result.stdout == "2 rounds, 6 epochs: the manifest was true every time\n"


READING = """
import sys
from pathlib import Path
from absl import flags
from export import __main__ as command
from fer_pipeline.training import checkpoints
from fer_pipeline import atomic_files, run_dir
from fer_pipeline.errors import UserError

def load_end(run, which):
    try:
        with run_dir.locked(run, run_dir.EXPORT_LOCK, busy="the lock is held"):
            sys.exit("nobody holds the lock")
    except UserError as error:
        sys.exit(str(error))

checkpoints.load_end = load_end
run = Path(sys.argv[1])
config = {"data": "synthetic", "fingerprint": "f", "versions": {}}
atomic_files.write_json(run / "config.json", config)
flags.FLAGS(["export", f"--run_dir={run}"])
command._export(run, None)
"""


def test_weights_are_read_under_the_lock(tmp_path):
    command = [sys.executable, "-c", READING, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == f"--run_dir={tmp_path}: the lock is held\n"
