"""The clock, the memory and the turns that all benchmarks share."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_rates_are_medians_with_ranges(module):
    measure = module("measure")
    report = measure.rates("train", 100, [1.0, 4.0, 2.0])
    assert report == {
        "train_images_per_second": 50.0,
        "train_images_per_second_range": [25.0, 100.0],
    }
    assert measure.interval(report, "train") == (50.0, (25.0, 100.0))
    assert measure.show(50.0, (25.0, 1100.0)) == "50 (25-1,100)"
    assert measure.interval(measure.rates("", 100, [1.0])) == (100.0, (100.0, 100.0))


def test_clock_times_each_call(module, monkeypatch):
    measure, now = module("measure"), iter(range(0, 1000, 10))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(now))
    called = []
    assert measure.clock(lambda: called.append(1), repeats=3) == [10] * 3
    assert len(called) == 3


def test_peak_of_memory_is_of_this_process_and_grows(module):
    """In a small one: what is allocated is twice of what it has had."""
    program = """
import measure
first = measure.peak_rss()
more = b"1" * (2 * first)
then = measure.peak_rss()
del more
print(first, then, measure.peak_rss())
"""
    folder = Path(module("measure").__file__).parent
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    first, then, last = map(int, done.stdout.split())
    assert min(then, last) > 2 * first > 2**21
    assert first < 2**28


def test_table_has_columns(module):
    text = module("measure").table([["", "n"], ["a", "1"], ["long", "1,000"]])
    assert text.splitlines() == ["          n", "a         1", "long  1,000"]


def test_the_command_names_no_folder_of_the_machine(module, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--out", "/home/me/results", "--batch", "1"])
    header = module("measure").header("throughput")
    assert header["command"] == "python benchmarks/throughput.py --out results --batch 1"


def contender(images, log, name):
    """A contender that tells a second a turn, and writes its name to a file at each."""
    code = (
        "import sys; print('{}', flush=True)\n"
        "for line in sys.stdin:\n"
        f"    open({str(log)!r}, 'a').write({name!r})\n"
        f"    print([{images}, 1.0, 5], flush=True)"
    )
    return [sys.executable, "-c", code]


def test_contenders_take_turns(module, tmp_path):
    log = tmp_path / "log"
    commands = {"ours": contender(300, log, "a"), "theirs": contender(100, log, "b")}
    reports = module("turns").race(commands, 3)
    assert log.read_text() == "ababab"
    assert list(reports) == ["ours", "theirs"]
    assert reports["theirs"]["ratio"] == 3.0
    assert reports["theirs"]["ratio_range"] == [3.0, 3.0]
    assert reports["theirs"]["images_per_second"] == 100.0
    assert reports["ours"]["ratio"] == 1.0
    assert reports["ours"]["peak_rss_bytes"] == 5
    table = module("turns").summarise(reports).splitlines()
    assert table[0].split() == ["images/s", "ours", "is", "faster", "by", "peak", "[MiB]"]
    assert table[2].split() == ["theirs", "100", "(100-100)", "3.00", "(3.00-3.00)", "0"]


@pytest.mark.parametrize(("status", "ends_with"), [(2, 2), (5, 1)])
def test_a_contender_that_ends_early_ends_the_race(module, status, ends_with, capfd):
    commands = {"ours": [sys.executable, "-c", f"import sys; sys.exit({status})"]}
    with pytest.raises(SystemExit) as end:
        module("turns").race(commands, 1)
    assert end.value.code == ends_with
    assert ("ours ended early" in capfd.readouterr().err) == (status != 2)
