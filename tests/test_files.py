"""Errors that help, and writing that loses nothing, whatever goes wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import (
    PROJECT,
    InputError,
    atomic_write,
    check_own_files,
    clear_leftovers,
    read_bytes,
    short,
)
from bertlib.plumbing.records import write_json

COMMAND = r"""
import resource, signal, sys, threading
from pathlib import Path
from bertlib.plumbing.commands import run_command
from bertlib.plumbing.files import atomic_write

def too_much():
    with atomic_write(Path("kept.bin")) as stream:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        stream.write(bytes(10**6))

def full():
    with open("/dev/full", "wb", buffering=0) as stream:
        stream.write(b"x")

def interrupted():
    with atomic_write(Path("kept.bin")) as stream:
        stream.write(b"half")
        signal.raise_signal(signal.SIGINT)

def talks():
    print("answer")

def tells():
    raise NotADirectoryError("here")

def names():
    print("made 'caf\udce9'")

def in_thread():
    def fail():
        raise [OSError("told by the main thread"), ValueError("a fault")][sys.argv[2:] == ["other"]]
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

sys.exit(run_command(globals()[sys.argv[1]]))
"""


def run(name: str, folder, *more: str) -> tuple[int, str]:
    """Exit status and stderr of one of the functions in COMMAND, run in `folder`."""
    (folder / "kept.bin").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", COMMAND, name, *more], cwd=folder, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    return done.returncode, done.stderr


def left(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_cannot_grow_is_named_and_the_old_one_stays(tmp_path):
    status, told = run("too_much", tmp_path)
    assert status == 2 and told.count("\n") == 1
    assert told.startswith("error: 'kept.bin' cannot be read or written (File too large); ")
    assert left(tmp_path) == {"kept.bin": b"old"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_full_disk_is_one_sentence(tmp_path):
    assert run("full", tmp_path) == (2, "error: A file cannot be read or written (No space left on "
                                        "device); free some space, then start again.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_output_that_finds_no_room_is_one_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", COMMAND, "talks"], stdout=full, text=True,
                              stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 2 and done.stderr.startswith("error: A file cannot be read or")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
@pytest.mark.parametrize("name", ["talks", "tells"])
def test_with_room_for_no_word_at_all_the_status_still_tells(name):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", COMMAND, name], stdout=full, stderr=full,
                              env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 2


def test_a_name_that_is_no_text_can_be_printed():
    strict = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", COMMAND, "names"], capture_output=True, env=strict)
    assert (done.returncode, done.stdout) == (0, b"made 'caf\\udce9'\n")


def test_a_thread_s_error_of_files_is_not_told_twice_and_others_are(tmp_path):
    assert run("in_thread", tmp_path) == (0, "")
    assert "ValueError: a fault" in run("in_thread", tmp_path, "other")[1]


def test_names_are_written_out_in_messages():
    told = str(InputError("'a\nb\x1b[31m\u202e\udcff' is no file; pass café \u4eac."))
    assert told == r"'a\nb\x1b[31m\u202e\udcff' is no file; pass café 京."


def test_an_interrupt_stops_what_comes_after_and_leaves_no_file(tmp_path):
    status, told = run("interrupted", tmp_path)
    assert status == 128 + signal.SIGINT
    assert told.strip().startswith("interrupted; ") and told.strip().count("\n") == 0
    assert left(tmp_path) == {"kept.bin": b"old"}


def test_an_interrupt_may_say_what_to_do_next(capsys):
    def stop():
        raise KeyboardInterrupt("start the same command to go on at step 7")
    assert run_command(stop) == 130
    assert "interrupted; start the same command to go on at step 7.\n" in capsys.readouterr().err


def test_a_folder_that_is_gone_or_no_folder_is_named(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    places = {"gone/a.json": "No such file", "file/a.json": "Not a directory",
              "folder": "Is a directory"}
    for name, reason in places.items():
        assert run_command(lambda name=name: write_json(tmp_path / name, {})) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"error: '{tmp_path / name}' cannot") and reason in told
    assert set(left_names(tmp_path)) == {"file", "folder"}


def left_names(folder) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_folder_deleted_meanwhile_is_one_sentence(tmp_path, capsys):
    def write():
        with atomic_write(tmp_path / "runs" / "a.bin") as stream:
            stream.write(b"x")
            next((tmp_path / "runs").iterdir()).unlink()
            (tmp_path / "runs").rmdir()
    (tmp_path / "runs").mkdir()
    assert run_command(write) == 2
    assert f"'{tmp_path}/runs/a.bin' cannot" in capsys.readouterr().err


def test_another_file_s_error_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "a.bin"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source") and left_names(tmp_path) == []


HELD = """
import signal, sys
from pathlib import Path
from bertlib.plumbing.files import atomic_write
with atomic_write(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    print("here", flush=True)
    signal.pause()
"""


def test_what_a_killed_process_left_is_cleared_and_what_a_live_one_writes_is_not(tmp_path):
    command = [sys.executable, "-c", HELD, tmp_path / "a.bin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"here\n"
        for name in (".b.bin.x1234567.tmp", ".c.x1234567.tmp", "mine.tmp"):
            (tmp_path / name).write_bytes(b"left")
        clear_leftovers(tmp_path, "*.bin")
        names = sorted(left_names(tmp_path))
        assert len(names) == 3 and names[0].startswith(".a.bin.")
        assert names[1:] == [".c.x1234567.tmp", "mine.tmp"]
        process.kill()
    clear_leftovers(tmp_path, "*")
    assert left_names(tmp_path) == ["mine.tmp"]


def test_links_in_a_folder_are_refused_and_the_folder_itself_may_be_one(tmp_path):
    run = tmp_path / "disk" / "run0"
    (run / "logs").mkdir(parents=True)
    (tmp_path / "run0").symlink_to(run)
    check_own_files(tmp_path / "run0")
    for link in (run / "plot.png", run / "logs" / "log.txt", run / "checkpoints"):
        link.symlink_to(tmp_path / "victim")
        with pytest.raises(InputError, match=f"{link.name}' is a link"):
            check_own_files(run)
        link.unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_a_folder_are_refused(tmp_path):
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs" / "lock")
    with pytest.raises(InputError, match=f"'{tmp_path}/logs/lock' is no regular file; remove it"):
        check_own_files(tmp_path)


def test_endless_values_are_quoted_in_short():
    assert short("it's") == '"it\'s"' and short(1.5) == "1.5" and short(True) == "True"
    for value in ("x" * 10**6, 10**5000, [["y" * 10**6] * 9] * 9, Path("z" * 10**6)):
        assert len(short(value)) < 1_000
    told = str(InputError(f"There is no '{'x' * 10**6}'; take another."))
    assert told.startswith("There is no 'xxx") and told.endswith("xxx'; take another.")
    assert "letters left out] xxx" in told and len(told) < 2_100


def test_a_notebook_shows_an_input_error_as_one_line(capsys):
    shell = InteractiveShell()
    shell.run_cell("from bertlib.plumbing.files import InputError\n"
                   "raise InputError('No such preset.')")
    assert capsys.readouterr().out.strip() == "InputError: No such preset."


def test_a_wrong_option_is_one_sentence(refused):
    parse = Parser(prog="some-command")
    parse.add_argument("--seed", type=int)
    assert refused(parse.parse_args, "--seed", "x") == (
        "error: Argument --seed: invalid int value: 'x'; --help tells all options.")


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path):
    (tmp_path / "good").write_bytes(b"\0\r\nwords")
    (tmp_path / "link").symlink_to("good")
    for name in ("good", "link"):
        assert read_bytes(tmp_path / name, 8) == b"\0\r\nwords"
        with pytest.raises(InputError, match=f"{name}' has 8 bytes, more than the 7"):
            read_bytes(tmp_path / name, 7)
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", tmp_path, "/dev/null"):
        with pytest.raises(InputError, match="no regular file"):
            read_bytes(name, 8)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none", 8)
