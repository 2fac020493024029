"""What a user types: a page is made and served."""

import json
import subprocess
import sys
import urllib.request


def command(*arguments):
    result = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def test_the_pretrained_model_is_served(runtime, tmp_path):
    folder = tmp_path / "page"
    arguments = ("--run_dir=pretrained", "--formats=web", f"--output_dir={folder}")
    said = command("export", *arguments)
    assert f"python -m fer_pipeline serve {folder} shows it" in said
    serve = [sys.executable, "-m", "fer_pipeline", "serve", str(folder), "--port=0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split(" is at ")[1].split()[0]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{address}page.json") as answer:
                assert json.load(answer)["model"] == "model_int8.tflite"
        finally:
            process.terminate()
    assert process.returncode == 143
