"""The clock of a job, and what a job says when it stops."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pullback.core.joblog import job_log
from pullback.core.stopping import EXIT_STOPPED, Clock, Stopped, process_age


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in ("SLURM_JOB_ID", "PULLBACK_TIME_LIMIT"):
        monkeypatch.delenv(name, raising=False)


def test_a_limit_counts_only_where_it_is_enforced(monkeypatch):
    assert Clock(1.0).due() is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    # Without squeue, which would ask a SLURM that is not there for some seconds.
    monkeypatch.setenv("PATH", "")
    assert Clock(0.1).due().endswith(" s after the limit of 0 s")
    assert Clock(None).due() is None
    monkeypatch.setenv("PULLBACK_TIME_LIMIT", "1e9")
    assert Clock(1.0).due() is None
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("PULLBACK_TIME_LIMIT", "2")
    assert Clock(None).due().endswith("the limit of 2 s")
    monkeypatch.setenv("PULLBACK_TIME_LIMIT", "1 h")
    with pytest.raises(ValueError, match="PULLBACK_TIME_LIMIT is '1 h'; wanted the seconds"):
        Clock(None)


@pytest.mark.parametrize(("limit", "margin"), [(100, 30), (300, 30), (1000, 100)])
def test_the_margin_is_a_tenth_or_half_a_minute(monkeypatch, limit, margin):
    age = process_age()
    # As long as this process is younger than half an hour more than now, it has so much left.
    for left, due in ((margin - 5, True), (margin + 1000, False)):
        monkeypatch.setenv("PULLBACK_TIME_LIMIT", str(limit))
        clock = Clock()
        clock._began = time.monotonic() - (limit - left)
        assert bool(clock.due()) == due
        assert bool(clock.due(next_s=2000)) is True
    assert age > 0


def test_the_age_is_that_of_the_process_not_of_the_import():
    code = "import time; time.sleep(1.5); from pullback.core.stopping import process_age; print(process_age())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) > 1.4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_makes_it_due_and_the_old_handlers_come_back(number):
    seen = []
    before = signal.signal(number, lambda *_: seen.append(1))
    try:
        with Clock() as clock:
            assert clock.due() is None
            os.kill(os.getpid(), number)
            assert clock.due() == f"on {number.name}"
        assert seen == []
        os.kill(os.getpid(), number)
        assert seen == [1]
    finally:
        signal.signal(number, before)


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone():
    found = []

    def work():
        with Clock() as clock:
            found.append((clock.due(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, signal.getsignal(signal.SIGTERM))]


def test_a_job_that_stopped_says_one_line_and_ends_with_75(tmp_path, capsys):
    log = tmp_path / "log"
    with pytest.raises(SystemExit) as end:
        with job_log(str(log)):
            raise Stopped("at step 1200 of 3000", "54 s before the limit of 600 s")
    line = "stopped at step 1200 of 3000, 54 s before the limit of 600 s; run it again and it goes on"
    assert end.value.code == EXIT_STOPPED == 75
    assert capsys.readouterr().err == f"pullback: {line}\n"
    assert log.read_text().endswith(f"INFO {line}\n")
    assert "Traceback" not in log.read_text()
