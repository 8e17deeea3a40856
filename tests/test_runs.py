"""What lies in a run folder: claimed once, sealed whole, read back or refused."""

import errno
import os
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from lmtune import records, runs
from lmtune.errors import CheckpointError
from lmtune.runs import Run

NOW = datetime(2026, 1, 2, 3, 4, 5)


def stage(run, step, text="weights"):
    folder = run.staging_folder / f"checkpoint-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    (folder / "inner" / "state").write_text("state")
    return folder


def publish(run, *steps):
    return [run.publish(stage(run, step), {"step": step}) for step in steps]


def test_a_taken_name_gets_a_number(tmp_path):
    names = [runs.claim_folder(tmp_path, "bio-gpt2", NOW).name for _ in range(3)]
    assert names == ["2026-01-02_03-04-05", "2026-01-02_03-04-05-2", "2026-01-02_03-04-05-3"]


def test_two_processes_never_claim_the_same_folder(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: runs.claim_folder(tmp_path, "a", NOW), range(40)))
    assert len(set(folders)) == 40


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pierreguillou/gpt2-small-portuguese", "gpt2-small-portuguese"),
        ("/a/João e Ana/", "João-e-Ana"),
        ("..", "run"),
        ("a b", "a-b"),
    ],
)
def test_names_come_from_the_last_path_part(text, name):
    assert records.slug(text) == name


def test_a_checkpoint_is_whole_where_it_stands(tmp_path):
    run = Run(tmp_path)
    (final,) = publish(run, 5)
    assert final == tmp_path / "checkpoint-5"
    assert runs.find_fault(final) is None
    assert sorted(records.load_json(final / runs.MANIFEST)["files"]) == ["inner/state", "model.safetensors"]
    assert not (run.staging_folder / "checkpoint-5").exists()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "model.safetensors").write_text("weight"), "model.safetensors has 6 bytes, expected 7"),
        (lambda f: (f / "model.safetensors").write_text("weighty"), "model.safetensors does not have the checksum"),
        (lambda f: (f / "model.safetensors").write_text(""), "model.safetensors has 0 bytes"),
        (lambda f: (f / "inner" / "state").unlink(), "inner/state is missing"),
        (lambda f: (f / runs.MANIFEST).unlink(), "manifest.json is missing or unreadable"),
        (lambda f: (f / runs.MANIFEST).write_text('{"fil'), "manifest.json is missing or unreadable"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, damage, complaint):
    run = Run(tmp_path)
    older, newer = publish(run, 5, 10)
    damage(newer)
    found, complaints = run.find_checkpoint()
    assert found == older
    assert len(complaints) == 1
    assert complaints[0].startswith(f"checkpoint-10: {complaint}")


def test_checkpoints_are_ordered_by_step(tmp_path):
    run = Run(tmp_path)
    publish(run, 5, 100, 20)
    (tmp_path / "checkpoint-best").mkdir()
    assert [folder.name for folder in run.checkpoints()] == ["checkpoint-100", "checkpoint-20", "checkpoint-5"]


def test_saving_a_step_again_replaces_it(tmp_path):
    run = Run(tmp_path)
    publish(run, 5)
    final = run.publish(stage(run, 5, "other weights"), {"step": 5})
    assert (final / "model.safetensors").read_text() == "other weights"
    assert runs.find_fault(final) is None


def test_files_can_be_read_by_others(tmp_path):
    run = Run(tmp_path)
    staged = stage(run, 5)
    (staged / "model.safetensors").chmod(0o600)
    final = run.publish(staged, {"step": 5})
    assert (final / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_records_are_cut_back_to_a_step(tmp_path):
    run = Run(tmp_path)
    for step in (1, 2, 3):
        records.append_jsonl(run.metrics_file, {"step": step})
    with run.metrics_file.open("a") as stream:
        stream.write('{"step": 4, "lo')
    run.cut_back(2)
    assert records.load_jsonl(run.metrics_file) == [{"step": 1}, {"step": 2}]


@pytest.fixture
def lockless(monkeypatch):
    """A file system that knows no locks."""

    def refuse(descriptor):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("filelock._unix.lock_fd_nonblocking", refuse)
    monkeypatch.setattr(runs, "HEARTBEAT_LIMIT", 1)


def check_in_use(run):
    held = run.lock()
    try:
        with pytest.raises(
            CheckpointError, match=rf"in use by process {os.getpid()} on {socket.gethostname()}, which started 20"
        ):
            run.lock()
    finally:
        held.release()
    run.lock().release()


def test_a_run_in_use_is_refused_and_its_holder_named(tmp_path):
    check_in_use(Run(tmp_path))


def test_a_heartbeat_holds_a_run_where_the_file_system_has_no_locks(tmp_path, lockless, monkeypatch):
    monkeypatch.setattr(runs, "PATIENCE", 0.5)
    check_in_use(Run(tmp_path))


def test_a_heartbeat_that_stopped_counts_as_dead(tmp_path, lockless):
    run = Run(tmp_path)
    dead = run.lock()
    dead._stop_heartbeat()
    marker = tmp_path / ".lock.lease"
    marker.write_text(marker.read_text().replace(socket.gethostname(), "elsewhere"))
    run.lock().release()


def test_a_run_is_taken_back_without_what_is_not_its_own(tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    held = run.lock()
    run.config_file.write_text("a: 1")
    (run.folder / ".hydra").mkdir()
    (run.folder / "notes.txt").write_text("mine")
    run.withdraw()
    assert [path.name for path in run.folder.iterdir()] == ["notes.txt"]
    (run.folder / "notes.txt").unlink()
    run.withdraw()
    assert not run.folder.exists()
    held.release()


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "metrics.jsonl"
    records.append_jsonl(file, {"step": 1})
    before, limit = file.read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limit[1]))
    try:
        with pytest.raises(OSError):
            records.append_jsonl(file, {"step": 2})
        assert file.read_text() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    records.append_jsonl(file, {"step": 2})
    assert records.load_jsonl(file) == [{"step": 1}, {"step": 2}]


def test_the_newest_run_of_a_configuration_is_found(tmp_path):
    for age, (name, fingerprint) in enumerate([("a", "x"), ("b", "x"), ("c", "y")]):
        folder = tmp_path / "outputs" / name
        folder.mkdir(parents=True)
        Run(folder).config_file.write_text("{}")
        os.utime(Run(folder).config_file, (age, age))
        records.write_json(Run(folder).results_file, {"fingerprint": fingerprint})
    found = runs.find_newest(tmp_path / "outputs", "x")
    assert found is not None
    assert found.folder.name == "b"
    assert runs.find_newest(tmp_path / "outputs", "z") is None


def test_a_broken_record_is_an_error_of_ours_and_skipped_in_a_search(tmp_path):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        Run(tmp_path / name).config_file.write_text("")
        records.write_json(Run(tmp_path / name).results_file, {"fingerprint": "x"})
    Run(tmp_path / "broken").results_file.write_text("")
    assert runs.find_newest(tmp_path, "x") == Run(tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"results\.json is not JSON"):
        Run(tmp_path / "broken").load_results()
    with pytest.raises(CheckpointError, match=r"config\.yaml holds no configuration"):
        Run(tmp_path / "whole").load_config()


def test_numbers_that_json_has_no_word_for_become_null():
    assert records.render_json({"a": [1.5, float("inf")], "b": float("nan")}) == '{"a": [1.5, null], "b": null}'
    assert [records.render_number(value) for value in (1.5, None, float("inf"))] == ["1.5000", "-", "-"]


def test_a_folder_takes_the_place_of_one_of_the_same_name(tmp_path):
    run = Run(tmp_path)
    (run.model_folder).mkdir()
    (run.model_folder / "old").touch()
    staged = run.staging_folder / "model"
    staged.mkdir(parents=True)
    (staged / "new").touch()
    assert run.place(staged) == run.model_folder
    assert [path.name for path in run.model_folder.iterdir()] == ["new"]


def test_overrides_of_what_is_no_run_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        runs.load_overrides(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"no \.hydra/overrides\.yaml in it"):
        runs.load_overrides(str(tmp_path))
