"""What lies in a run folder: claimed once, sealed whole, read back or refused."""

import errno
import os
import resource
import shutil
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from filelock import FileLock

from lmtune import runs, storage
from lmtune.errors import CheckpointError
from lmtune.exporting.staging import staged
from lmtune.runs import begin_below
from lmtune.runs.search import new_folder
from lmtune.runs.unfinished import remove_abandoned, unfinished

NOW = datetime(2026, 1, 2, 3, 4, 5)


@pytest.fixture
def run(tmp_path, begin_run):
    return begin_run(tmp_path / "run")


def stage(run, step, text="weights"):
    folder = run.staging_folder / f"checkpoint-{step}"
    (folder / "inner").mkdir(parents=True)
    (folder / "model.safetensors").write_text(text)
    (folder / "inner" / "state").write_text("state")
    return folder


def publish(run, *steps):
    return [run.publish(stage(run, step), {"step": step}) for step in steps]


def test_a_taken_name_gets_a_number(tmp_path):
    names = [begin_below(tmp_path, "bio-gpt2", NOW).folder.name for _ in range(3)]
    assert names == ["2026-01-02_03-04-05", "2026-01-02_03-04-05-2", "2026-01-02_03-04-05-3"]


def test_two_processes_never_claim_the_same_folder(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        begun = list(pool.map(lambda _: begin_below(tmp_path, "a", NOW), range(40)))
    assert len({run.folder for run in begun}) == 40
    assert len({run.mark.id for run in begun}) == 40


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
    assert storage.slug(text) == name


def test_a_checkpoint_is_whole_where_it_stands(run):
    (final,) = publish(run, 5)
    assert final == run.folder / "checkpoint-5"
    assert runs.find_fault(final) is None
    assert sorted(storage.load_json(final / runs.MANIFEST)["files"]) == ["inner/state", "model.safetensors"]
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
def test_a_damaged_checkpoint_is_passed_over_and_named(run, damage, complaint):
    older, newer = publish(run, 5, 10)
    damage(newer)
    found, complaints = run.find_checkpoint()
    assert found == older
    assert len(complaints) == 1
    assert complaints[0].startswith(f"checkpoint-10: {complaint}")


def test_checkpoints_are_ordered_by_step(run):
    publish(run, 5, 100, 20)
    (run.folder / "checkpoint-best").mkdir()
    assert [folder.name for folder in run.checkpoints()] == ["checkpoint-100", "checkpoint-20", "checkpoint-5"]


def test_saving_a_step_again_replaces_it(run):
    publish(run, 5)
    final = run.publish(stage(run, 5, "other weights"), {"step": 5})
    assert (final / "model.safetensors").read_text() == "other weights"
    assert runs.find_fault(final) is None


def test_files_can_be_read_by_others(run):
    staged = stage(run, 5)
    (staged / "model.safetensors").chmod(0o600)
    final = run.publish(staged, {"step": 5})
    assert (final / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_records_are_cut_back_to_a_step(run):
    for step in (1, 2, 3):
        storage.append_jsonl(run.metrics_file, {"step": step})
    with run.metrics_file.open("a") as stream:
        stream.write('{"step": 4, "lo')
    run.cut_back(2)
    assert storage.load_jsonl(run.metrics_file) == [{"step": 1}, {"step": 2}]


@pytest.fixture
def lockless(monkeypatch):
    """A file system that knows no locks."""

    def refuse(descriptor):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    module = sys.modules[FileLock.__module__]
    name = "lock_fd_nonblocking" if hasattr(module, "lock_fd_nonblocking") else "_lock_fd_nonblocking"
    monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(runs.lock, "HEARTBEAT_LIMIT", 1)


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


def test_a_run_in_use_is_refused_and_its_holder_named(run):
    check_in_use(run)


def test_a_heartbeat_holds_a_run_where_the_file_system_has_no_locks(run, lockless, monkeypatch):
    monkeypatch.setattr(runs.lock, "PATIENCE", 0.5)
    check_in_use(run)


def test_a_heartbeat_that_stopped_counts_as_dead(run, lockless):
    dead = run.lock()
    dead._stop_heartbeat()
    marker = run.folder / ".lock.lease"
    marker.write_text(marker.read_text().replace(socket.gethostname(), "elsewhere"))
    run.lock().release()


def test_a_run_is_taken_back_without_what_is_not_its_own(run):
    held = run.lock()
    run.config_file.write_text("a: 1")
    (run.folder / ".hydra").mkdir()
    (run.folder / "notes.txt").write_text("mine")
    run.withdraw()
    assert [path.name for path in run.folder.iterdir()] == ["notes.txt"]
    held.release()


def test_a_run_is_taken_back_with_the_folders_that_were_made_for_it(tmp_path, begin_run):
    (tmp_path / "kept").mkdir()
    begin_run(tmp_path / "kept" / "a" / "b").withdraw()
    begin_run(tmp_path / "kept").withdraw()
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"], "it was there before"


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "metrics.jsonl"
    storage.append_jsonl(file, {"step": 1})
    before, limit = file.read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limit[1]))
    try:
        with pytest.raises(OSError):
            storage.append_jsonl(file, {"step": 2})
        assert file.read_text() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, previous)
    storage.append_jsonl(file, {"step": 2})
    assert storage.load_jsonl(file) == [{"step": 1}, {"step": 2}]


def begin(root, fingerprint):
    run = begin_below(root, "a", NOW)
    run.write_results({"fingerprint": fingerprint})
    return run


def test_a_folder_that_goes_while_it_is_measured_counts_for_nothing(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"123")
    scan = os.scandir

    def scan_and_remove(place):
        for name in {"a": "b", "b": "a"}.get(os.path.basename(place), ""):  # noqa: PTH119  as os.walk names it
            (tmp_path / name / "file").unlink()
            (tmp_path / name).rmdir()
        return scan(place)

    assert storage.measure_folder(tmp_path) == 6
    monkeypatch.setattr(os, "scandir", scan_and_remove)
    assert storage.measure_folder(tmp_path) == 3


def has(fingerprint):
    return lambda run: run.find_results().get("fingerprint") == fingerprint


def test_the_run_of_a_configuration_that_was_begun_last_is_found_whatever_the_dates_of_files(tmp_path, monkeypatch):
    older, newer, _ = begin(tmp_path, "x"), begin(tmp_path, "x"), begin(tmp_path, "y")
    os.utime(older.folder / "run.json")
    os.utime(newer.folder / "run.json", (0, 0))
    assert runs.find_newest(tmp_path, has("x")) == newer
    assert runs.find_newest(tmp_path, has("z")) is None
    late = runs.mark.datetime
    monkeypatch.setattr(runs.mark, "datetime", type("Back", (), {"now": lambda zone: late(1970, 1, 1, tzinfo=zone)}))
    after_the_clock_was_set_back = begin(tmp_path, "x")
    assert runs.find_newest(tmp_path, has("x")) == after_the_clock_was_set_back


def test_a_copy_does_not_win_over_the_run_that_it_was_made_from(tmp_path):
    run = begin(tmp_path, "x")
    for name in ("0", "z"):
        shutil.copytree(run.folder, tmp_path / "a" / name)
    assert runs.find_newest(tmp_path, has("x")) == run


def test_a_broken_record_is_skipped_in_a_search_and_named_where_it_is_needed(tmp_path):
    whole, broken = begin(tmp_path, "x"), begin(tmp_path, "x")
    broken.results_file.write_text("")
    assert runs.find_newest(tmp_path, has("x")) == whole
    assert broken.find_results() == {}
    with pytest.raises(CheckpointError, match=r"results\.json is not JSON"):
        broken.load_results()
    with pytest.raises(CheckpointError, match=r"config\.yaml: expected the settings of a run"):
        whole.load_config()


def test_numbers_that_json_has_no_word_for_become_null():
    assert storage.render_json({"a": [1.5, float("inf")], "b": float("nan")}) == '{"a": [1.5, null], "b": null}'
    assert [storage.render_number(value) for value in (1.5, None, float("inf"))] == ["1.5000", "-", "-"]


def stage_model(run, name):
    staged = run.staging_folder / "model"
    staged.mkdir(parents=True)
    (staged / name).touch()
    runs.seal(staged, {"run": run.mark.id})
    return staged


def test_a_folder_takes_the_place_of_one_of_the_same_name(run):
    run.place(stage_model(run, "old"))
    assert run.place(stage_model(run, "new")) == run.model_folder
    assert sorted(path.name for path in run.model_folder.iterdir()) == ["manifest.json", "new"]


@pytest.mark.parametrize("sealed_by", [None, "another run", "this run, with something more in it"])
def test_a_folder_that_is_not_the_runs_own_is_never_replaced_or_deleted(run, sealed_by):
    run.model_folder.mkdir()
    (run.model_folder / "photo.jpg").write_text("mine")
    if sealed_by == "another run":
        runs.seal(run.model_folder, {"run": "0123456789abcdef"})
    if sealed_by and "this" in sealed_by:
        runs.seal(run.model_folder, {"run": run.mark.id})
        (run.model_folder / "more.jpg").write_text("mine too")
    before = {path: path.read_bytes() for path in run.model_folder.iterdir()}
    with pytest.raises(FileExistsError, match="has not made"):
        run.place(stage_model(run, "new"))
    assert not run.discard(run.model_folder)
    assert {path: path.read_bytes() for path in run.model_folder.iterdir()} == before


@pytest.mark.parametrize("name", ["report.html", "model", "tensorboard", ".lock"])
def test_a_name_that_something_else_has_is_not_taken(tmp_path, name, begin_run):
    run = begin_run(tmp_path / "run")
    runs.mark.write_mark(run.folder, runs.mark.replace(run.mark, made=()))
    (run.folder / name).write_text("mine")
    with pytest.raises(CheckpointError, match=f"holds {name}, which this run has not made"):
        run.claim(name)
    run.sweep()
    assert (run.folder / name).read_text() == "mine"


def test_what_a_killed_process_left_of_its_records_goes_with_the_next(tmp_path, begin_run):
    run = begin_run(tmp_path / "run")
    left, others = ("results.json", "run.json"), ("notes.0123abcd", ".notes.0123abcd", ".results.json.old")
    for name in (*(f".{name}.0123abcd" for name in left), *others):
        (run.folder / name).write_text("{")
    run.sweep()
    assert not any((run.folder / f".{name}.0123abcd").exists() for name in left)
    assert all((run.folder / name).exists() for name in (*others, "run.json"))


@pytest.mark.parametrize("names", [["notes.txt"], ["checkpoint-1", "model", "results.json"], [".hidden"], ["run.json"]])
def test_a_folder_with_anything_in_it_is_no_place_for_a_run(tmp_path, names, begin_run):
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(CheckpointError, match="expected a new folder or an empty one"):
        begin_run(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "mine")


def test_a_damaged_mark_comes_back_from_a_checkpoint(run):
    publish(run, 5, 10)
    before = run.mark
    for damage in (
        lambda f: f.unlink(),
        lambda f: f.write_text("{"),
        lambda f: f.write_text(f.read_text().replace("10", "11")),
    ):
        damage(run.folder / runs.MARK)
        assert run.restore_mark()
        assert run.mark == before
    assert not run.restore_mark()


def test_what_is_no_run_is_not_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        runs.find_resumed(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"no run\.json in it"):
        runs.find_resumed(str(tmp_path))


@pytest.mark.parametrize(("name", "what"), [("checkpoint-5", "checkpoint"), ("model", "finished model")])
def test_part_of_a_run_is_answered_with_what_to_type(run, name, what):
    publish(run, 5)
    run.model_folder.mkdir()
    with pytest.raises(
        CheckpointError, match=f"is a {what} of a run.*Give resume={run.folder}, .*checkpoint-5"
    ) as refused:
        runs.find_resumed(str(run.folder / name))
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_moved_or_replaced_is_noticed_and_found_again(run, tmp_path):
    place = runs.Place(run.folder)
    place.check()
    run.folder.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=rf"moved to {tmp_path}/moved.*resume={tmp_path}/moved"):
        place.check()
    run.folder.mkdir()
    assert not place.is_kept, "another folder lies in its place"
    assert place.find() == tmp_path / "moved"
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="deleted or replaced"):
        place.check()
    place.close()


def write_until_killed(folder):
    """A process of its own that has begun to write in `folder`."""
    ready, told = os.pipe()
    process = os.fork()
    if process == 0:
        with unfinished(folder) as aside:
            (aside / "model.safetensors").write_text("half")
            os.write(told, b"x")
            signal.pause()
    os.read(ready, 1)
    return process


def kill(process):
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def test_what_a_killed_process_has_left_unfinished_goes_with_the_next_command_and_not_before(tmp_path, caplog):
    folder = tmp_path / "mine"
    folder.mkdir()
    process = write_until_killed(folder)
    try:
        with pytest.raises(CheckpointError, match=r"1 thing in it \(\.unfinished-"), new_folder(str(folder), ""):
            pytest.fail("the other process is still writing in it")
        (left,) = folder.iterdir()
        assert (left / "files" / "model.safetensors").read_text() == "half"
    finally:
        kill(process)
    with caplog.at_level("INFO"), new_folder(str(folder), "") as empty:
        assert list(empty.iterdir()) == []
    assert "removed what a process that was killed had left unfinished" in caplog.text


def test_dated_folders_of_killed_processes_go_with_the_next_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dead, alive, done = (tmp_path / "outputs" / "bio-gguf" / name for name in ("dead", "alive", "done"))
    for folder in (dead, alive, done):
        folder.mkdir(parents=True)
    (done / "bio-f32.gguf").touch()
    kill(write_until_killed(dead))
    kill(write_until_killed(done))
    process = write_until_killed(alive)
    try:
        with new_folder(None, "bio-gguf") as folder:
            assert not dead.exists()
            assert [path.name for path in done.iterdir()] == ["bio-f32.gguf"]
            assert len(list(alive.iterdir())) == 1
            assert list(folder.iterdir()) == []
    finally:
        kill(process)


@pytest.mark.parametrize("name", [".unfinished-0123456789abcdef", ".unfinished-mine"])
def test_a_folder_that_only_has_such_a_name_stays(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "text").touch()
    assert not remove_abandoned(tmp_path)
    assert (tmp_path / name / "text").exists()


def test_output_appears_whole_and_its_hidden_folder_goes(tmp_path):
    with staged(tmp_path, last="b") as aside:
        for name in ("b", "a"):
            (aside / name).touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
