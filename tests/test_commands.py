"""Commands that are interrupted while they still load."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bertlib.plumbing.files import PROJECT

IMPATIENT = """
import signal, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Watch())
"""
SCRIPT = Path(sys.executable).with_name("pretrain-bert")


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes otherwise")
@pytest.mark.parametrize("command", [
    (sys.executable, "-m", "bertlib.predict", "the [MASK] ."),
    (sys.executable, "-m", "bertlib.bench"),
    (sys.executable, SCRIPT),
])
def test_ctrl_c_while_a_command_loads_ends_it_by_the_signal_without_a_word(tmp_path, command):
    """Then a shell's && does not go on; a KeyboardInterrupt there would make PyTorch abort."""
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ
                          | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"})
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
