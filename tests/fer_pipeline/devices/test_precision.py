"""The dtype policy a device earns, by DESIGN's rule, from facts given here."""

import pytest
import tensorflow as tf

from fer_pipeline.devices import precision
from fer_pipeline.gpus import Gpu


@pytest.mark.parametrize(
    ("capabilities", "flags", "vendor", "policy"),
    [
        ([(9, 0)], {"avx512_bf16"}, "AuthenticAMD", "mixed_float16"),
        ([(7, 0), (8, 6)], set(), "GenuineIntel", "mixed_float16"),
        ([(6, 1)], {"avx512_bf16"}, "AuthenticAMD", "float32"),
        ([(8, 0), (6, 1)], set(), "GenuineIntel", "float32"),
        ([], {"avx2", "avx512_bf16"}, "AuthenticAMD", "mixed_bfloat16"),
        # Measured to be slower than float32 there.
        ([], {"avx2", "avx512_bf16"}, "GenuineIntel", "float32"),
        ([], {"avx512_bf16", "amx_bf16"}, "GenuineIntel", "mixed_bfloat16"),
        ([], {"avx2", "avx512f"}, "AuthenticAMD", "float32"),
        ([], set(), "", "float32"),
    ],
)
def test_choice(capabilities, flags, vendor, policy):
    assert precision.choose(capabilities, flags, vendor) == policy


def test_auto_asks_this_cpu(monkeypatch):
    facts = {"flags": "avx512f avx512_bf16", "vendor_id": "AuthenticAMD"}
    monkeypatch.setattr(precision, "_cpu_facts", lambda path: facts)
    assert precision.resolve("auto", []) == "mixed_bfloat16"
    facts["vendor_id"] = "GenuineIntel"
    assert precision.resolve("auto", []) == "float32"


def test_cpu_flags_are_read_from_the_first_processor(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
        "model name\t: A: fast one\nflags\t\t: fpu avx2\n\n"
        "processor\t: 1\nmodel name\t: B\nflags\t\t: other\n\n"
    )
    assert precision.cpu_model(str(file)) == "A: fast one"
    assert precision.cpu_vendor(str(file)) == "AuthenticAMD"
    assert precision.cpu_flags(str(file)) == {"fpu", "avx2"}
    assert precision.cpu_flags(str(tmp_path / "missing")) == set()
    assert precision.cpu_vendor(str(tmp_path / "missing")) == ""


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_an_explicit_policy_is_kept(policy):
    assert precision.resolve(policy, [Gpu(0, "H100", (9, 0))]) == policy


def test_true_float32_is_for_the_block_alone():
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    before = enabled()
    with precision.true_float32():
        assert not enabled()
    assert enabled() == before
