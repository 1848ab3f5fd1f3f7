"""Threads and deterministic algorithms, for as long as they are wanted."""

import subprocess
import sys

import torch

from pullback.diffusion.numerics import numerics


def test_what_was_set_before_comes_back():
    threads = torch.get_num_threads()
    with numerics(1, gpu=False):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    with numerics(1, gpu=True):
        assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_the_compiler_stays_out():
    """Importing it takes every job four seconds."""
    code = (
        "import sys; from pullback.diffusion.numerics import numerics\n"
        "with numerics(1, gpu=False): pass\n"
        "sys.exit(any(name.split('.')[1:2] == ['_inductor'] for name in sys.modules if name.startswith('torch.')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
