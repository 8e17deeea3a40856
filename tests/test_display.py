"""What is shown of long work: pure text that fits, lines that are painted below all others, and a word in good time."""

import json
import logging
import os
import random
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Pane, Written

from lmtune import console, gauges, patience
from lmtune.cli.sweep_table import JobLine, SweepWork
from lmtune.gauges import ASCII, MEGABYTES, TOKENS
from lmtune.measures import SHOWN
from lmtune.reporting.foresight import _render_costs
from lmtune.reporting.next_steps import render_next, render_resumption, render_shortfall
from lmtune.reporting.tables import render_set, shorten
from lmtune.runs import Run
from lmtune.screen import Screen
from lmtune.storage import write_json
from lmtune.training import outlook as outlooks
from lmtune.training.foresight import Course
from lmtune.training.outlook import Outlook
from lmtune.training.pulse import Pulse, find_lowest, render_evaluation, render_log, render_pulse

logger = logging.getLogger("lmtune.test")

WIDTHS = st.integers(1, 200)


# Text


def test_a_bar_is_as_full_as_the_work_is():
    assert gauges.render_bar(0.5, 10, ASCII) == "#####-----"
    assert gauges.render_bar(7.0, 4, ASCII) == "####"
    assert gauges.render_bar(-1.0, 4, ASCII) == "----"


@given(st.floats(0, 1e6), WIDTHS)
def test_a_bar_of_unknown_length_keeps_its_width(seconds, width):
    assert len(gauges.render_moving_bar(seconds, width)) == width


def test_a_curve_falls_as_the_losses_do():
    assert gauges.render_curve([8, 6, 4, 1], 4, ASCII) == "#+~_"
    assert gauges.render_curve([8, 8, 1, 1], 2) == "█▁"
    assert gauges.render_curve([5.0, 5.0], 8) == "▁▁"
    assert len(gauges.render_curve(list(range(1000)), 16)) == 16
    assert gauges.render_curve([], 8) == ""


@given(st.lists(st.floats(-1e9, 1e9), max_size=60), st.integers(1, 30))
def test_a_curve_never_takes_more_than_its_width(values, width):
    assert len(gauges.render_curve(values, width)) == min(width, len(values))


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.9, "0:07"), (754, "12:34"), (11106, "3:05:06"), (360000, "100:00:00")]
)
def test_a_clock_reads_like_one(seconds, text):
    assert gauges.render_clock(seconds) == text


@given(st.lists(st.text()), WIDTHS)
def test_parts_that_are_joined_fit(parts, width):
    assert gauges.measure_width(gauges.join_fitting(parts, width)) <= width


def test_wide_letters_count_twice_and_accents_not_at_all():
    assert gauges.measure_width("漢字") == 4
    assert gauges.measure_width("e\u0301") == 1
    assert gauges.cut_to("漢字", 3) == "漢"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("er\ufffd ninad", "er· ninad"),
        ("a\x1b[2Jb\x07c", "a␛[2Jb␇c"),
        ("left\u202eright", "left·right"),
        ("coração 漢字 🙂", "coração 漢字 🙂"),
        ("half\ud83d", "half·"),
    ],
)
def test_a_sample_cannot_steer_the_terminal(text, shown):
    assert gauges.make_harmless(text) == shown


def test_an_encoding_without_bars_gets_plain_ones():
    assert gauges.choose_glyphs("ascii") is ASCII
    assert gauges.choose_glyphs("latin-1") is ASCII
    assert gauges.choose_glyphs("utf-8") is gauges.FINE
    assert gauges.choose_glyphs("no such encoding") is ASCII


def test_prose_is_folded_and_a_command_is_not():
    assert console.fold("one two three", 8) == ["one two", "  three"]
    command = "  lmtune train resume=outputs/a/b/c/d/e/f"
    assert console.fold(command, 20) == [command]


def test_a_bar_of_unknown_length_goes_to_and_fro():
    shown = [gauges.render_moving_bar(quarter / 4, 8, ASCII) for quarter in (0, 1, 6, 7)]
    assert shown == ["##------", "-##-----", "------##", "-----##-"]


# A work


def test_a_work_says_how_much_how_fast_and_how_long():
    work = patience.Work("encoding", total=110e6, unit=MEGABYTES)
    work.begun -= 36
    work.advance(68e6)
    assert work.render() == "encoding: 68.0 of 110.0 MB, 36 s, 1.9 MB/s, 22 s left"
    (line,) = work.render_lines(79, work.begun + 36)
    assert line == "encoding     ━━━━━━━╌╌╌╌╌   62%  0:36  22 s left  68.0 of 110.0 MB  1.9 MB/s"
    (wide,) = work.render_lines(119, work.begun + 36)
    assert wide == "encoding             ━━━━━━━━━━━━╌╌╌╌╌╌╌╌   62%  0:36  22 s left  68.0 of 110.0 MB  1.9 MB/s"


@given(st.text("ab漢 ", max_size=90), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(20, 130))
def test_a_line_of_a_work_fits(words, count, total, width):
    work = patience.Work(words, total, TOKENS)
    work.advance(count)
    assert gauges.measure_width(work.render_lines(width, work.begun + 5)[0]) <= width


def test_a_work_can_be_looked_at_where_nobody_counts():
    work = patience.Work("saving", unit=MEGABYTES)
    work.measure = lambda: 3e6
    assert work.render() == "saving: 3.0 MB, 0 s"


# A sweep


def write_run(folder, lines, steps):
    folder.mkdir()
    write_json(Run(folder).results_file, {"status": "running", "starts": [{"steps": 999}, {"steps": steps}]})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def test_a_sweep_shows_how_far_each_of_its_jobs_is(tmp_path):
    scored = [{"step": step, "eval_bits_per_byte": bits} for step, bits in ((0, 4.5), (100, 2.25), (110, 2.5))]
    write_run(tmp_path / "3", [*scored, {"step": 120, "loss": 1.0}], 240)
    jobs = [
        JobLine(3, "seed=3, training.learning_rate=0.1", tmp_path / "3"),
        JobLine(12, "seed=12, model.config.n_embd=64", tmp_path / "12"),
    ]
    work = SweepWork(8, lambda: jobs)
    work.count, work.failed = 2, 1
    work.begun = jobs[0].begun = jobs[1].begun = 0
    assert work.render_lines(89, 250) == [
        "sweep        ━━━╌╌╌╌╌╌╌╌╌   25%  4:10  2 of 8 jobs  1 failed",
        "  job 3  seed=3, learning_rate=0.1  120/240  4:10  bits per byte 2.2500 at step 100",
        "  job 12  seed=12, n_embd=64        4:10",
    ]
    assert (
        work.render_lines(79, 250)[1] == "  job 3  seed=3, learning_  120/240  4:10  bits per byte 2.2500 at step 100"
    )
    with (tmp_path / "3" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 240, "eval_bits_per_byte": 2.125}\n{"step": 2')
    assert "120/240" in work.render_lines(79, 251)[1], "a run folder is looked into now and then"
    assert "  240/240  4:15  bits per byte 2.1250 at step 240" in work.render_lines(79, 255)[1]


def test_a_wide_sweep_fits_its_terminal(tmp_path):
    jobs = [JobLine(number, "model.path=" + "é漢" * 40, tmp_path / str(number)) for number in range(20)]
    lines = SweepWork(20, lambda: jobs).render_lines(60, time.monotonic())
    assert len(lines) == 14
    assert lines[-1] == "  and 8 more"
    assert max(map(gauges.measure_width, lines)) <= 60


# A screen


def test_painted_lines_stay_below_what_is_written():
    stream, pane = Written(), Pane(80)
    screen = Screen(stream)
    screen.paint(["training 1/9", "0:01"])
    screen.above("step 1\n")
    screen.paint(["training 2/9", "0:02", "scoring"])
    screen.above("a half")
    screen.paint(["training 3/9"])  # not into a line that somebody else has begun
    screen.above(" line\n")
    pane.feed(stream.getvalue())
    assert pane.text == "step 1\na half line\ntraining 3/9"
    screen.paint([])
    pane.feed(stream.getvalue())


def test_any_course_of_painting_and_writing_leaves_all_that_was_written():
    draw = random.Random(0)
    for _ in range(50):
        stream, pane, written = Written(), Pane(80), []
        screen = Screen(stream)
        for number in range(30):
            if draw.random() < 0.6:
                screen.paint([f"line {number} {place}" for place in range(draw.randrange(4))])
            else:
                written.append(f"word {number}")
                screen.above(f"word {number}\n")
        screen.paint([])
        pane.feed(stream.getvalue())
        assert pane.text.split("\n") == written


def test_a_line_is_cut_before_it_wraps():
    stream, pane = Written(), Pane(80)
    Screen(stream).paint(["x" * 200, "y" * 200])
    pane.feed(stream.getvalue())
    assert pane.wrapped == 0
    assert pane.lines == ["x" * 79, "y" * 79]


def test_a_forked_process_writes_past_the_screen(monkeypatch):
    stream = Written()
    screen = Screen(stream)
    screen.paint(["training"])
    before = stream.getvalue()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    screen.above("from a worker\n")
    assert stream.getvalue() == f"{before}from a worker\n"


# A command


def test_a_command_says_within_a_second_that_it_has_begun(caplog):
    caplog.set_level(logging.INFO, "lmtune")
    time.sleep(patience.PAUSE)  # after works of other tests
    with patience.doing(patience.CommandWork("lmtune train")):
        patience.turn_to("loading libraries")
        time.sleep(0.95)
    assert caplog.messages == ["lmtune train: loading libraries: 1 s"]


def test_a_command_that_waits_for_people_says_nothing(caplog):
    caplog.set_level(logging.INFO, "lmtune")
    with patience.doing(patience.CommandWork("lmtune serve")):
        patience.rest()
        time.sleep(1.0)
    assert caplog.messages == []


def test_a_log_tells_the_time_of_progress_and_a_terminal_does_not_repeat_it(capfd):
    with console.speaking():
        console.log_progress(logger, "step 10 of 20")
        logger.info("run folder: here")
    first, second = capfd.readouterr().err.splitlines()
    time.strptime(first.split()[0], "%H:%M:%S")
    assert first.endswith("  step 10 of 20")
    assert second == "run folder: here"


# A training

COURSE = Course(
    steps=2172, first=0, steps_per_epoch=724, tokens_per_step=1024, targets_per_epoch=None, evaluations=11, saves=10
)


def build_outlook(step=0.5, evaluation=10.0, **changes):
    outlook = Outlook(COURSE, **changes)
    outlook.recent.extend([step, step, step, 9 * step])  # one step of them was held up
    outlook.evaluation = evaluation
    return outlook


def test_the_time_left_counts_steps_evaluations_and_the_final_scoring():
    outlook = build_outlook(final_share=3.0)
    assert outlook.estimate_left(172) == 2000 * 0.5 + 11 * 10 + 3 * 10
    outlook.evaluations_done = 11
    assert outlook.estimate_left(2172) == 30
    text = outlooks.render_outlook(outlook, 172, "until 18:24")
    assert text == "time: about 17 min to the end, until 18:24 (0.5 s a step, 10 s an evaluation)"


def test_a_long_training_says_what_would_fit():
    said = outlooks.render_remedy(build_outlook(step=30.0))
    assert said.startswith("training.max_steps=36 would take about 20 min. Ctrl-C is safe")
    assert "eval.max_tokens=" in outlooks.render_remedy(build_outlook(step=30.0, evaluation=600.0))
    assert outlooks.render_long(4 * 86400) == "4.0 days"


def test_threads_that_wait_are_noticed_on_a_busy_machine_only():
    said = outlooks.find_crowding(cpu=1.8, wall=2.0, threads=2, load=6.7, processors=2)
    assert said is not None
    assert "OMP_NUM_THREADS=1" in said
    assert outlooks.find_crowding(cpu=1.8, wall=2.0, threads=2, load=2.1, processors=2) is None  # nobody else is there
    assert outlooks.find_crowding(cpu=3.8, wall=2.0, threads=2, load=6.7, processors=2) is None  # it gets its share
    assert (
        outlooks.find_crowding(cpu=0.4, wall=2.0, threads=1, load=6.7, processors=2) is None
    )  # one waits for no other


PULSE = Pulse(
    step=412,
    steps=2172,
    losses=[6.9 - place / 20 for place in range(41)],
    logs={"loss": 4.9, "tokens_per_second": 2410.4, "learning_rate": 8.4e-4, "memory_gb": 0.7},
    lowest=(3.1057, 400),
    next_evaluation=434,
)


def test_a_training_stands_in_two_lines():
    assert render_pulse(PULSE, 72, 320, "until 18:24", 79) == [
        "training 412/2,172 ━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  19%  loss 4.9000 ██▇▇▆▆▅▅▄▄▃▃▂▂▁▁",
        "  1:12  5 min left, until 18:24  2,410 tokens/s  lr 8.40e-04  0.7 GB",
    ]
    wide = render_pulse(PULSE, 72, 320, "until 18:24", 119)
    assert "bits per byte 3.1057 at step 400" in wide[0]
    assert wide[1].endswith("lr 8.40e-04  scored at step 434  0.7 GB")


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.lists(st.floats(0, 20), max_size=50),
    st.one_of(st.none(), st.floats(0, 1e8)),
    st.integers(60, 130),
)
def test_a_training_always_fits(step, steps, losses, left, width):
    pulse = Pulse(step=step, steps=steps, losses=losses, logs=PULSE.logs, lowest=(3.1, step), next_evaluation=steps)
    lines = render_pulse(pulse, 1e6, left, None if left is None else "until Wed 30 Sep 18:24", width)
    assert len(lines) == 2
    assert all(gauges.measure_width(line) <= width for line in lines)


def test_a_long_training_tells_its_time_after_three_steps_and_what_would_fit(caplog, monkeypatch):
    from lmtune.training import progress

    clock = SimpleNamespace(now=0.0, cpu=0.0)
    monkeypatch.setattr(
        progress,
        "time",
        SimpleNamespace(
            monotonic=lambda: clock.now,
            process_time=lambda: clock.cpu,
            **{name: getattr(time, name) for name in ("time", "localtime", "strftime")},
        ),
    )
    monkeypatch.setattr(progress.os, "getloadavg", lambda: (99.0, 99.0, 99.0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    caplog.set_level(logging.INFO, "lmtune")
    args = SimpleNamespace(device=SimpleNamespace(type="cpu"), eval_strategy="steps", eval_steps=217, logging_steps=10)
    state = SimpleNamespace(global_step=0, max_steps=2172, log_history=[])
    line = progress.ProgressLine(Outlook(COURSE))
    line.on_train_begin(args, state, None)
    metrics = {"eval_bits_per_byte": 3.9, "eval_loss": 6.9}
    state.log_history.append({**metrics, "step": 0})
    line.on_evaluate(args, state, None, metrics=metrics)
    clock.now += 20
    for number in range(1, 6):
        line.on_step_begin(args, state, None)
        clock.now, clock.cpu, state.global_step = clock.now + 9, clock.cpu + 5, number
        line.on_step_end(args, state, None)
    line.close()
    told = [text for text in caplog.messages if not text.startswith(("step 1", "step 2", "step 4", "step 5"))]
    assert told[0] == "step 0: 3.9000 bits per byte, loss 6.9000"
    assert told[1].startswith("time: about 5 h 29 min to the end, until ")
    assert told[1].endswith(" (9 s a step, 20 s an evaluation)")
    assert told[2].startswith("training.max_steps=106 would take about 20 min.")
    assert [text for text in told if "OMP_NUM_THREADS=1" in text] == told[3:4]
    assert not any(text.startswith("step 3") for text in told), "the line with the time to the end tells that already"


def test_a_step_of_a_log_tells_rate_and_time():
    logs = {"loss": 5.9606, "learning_rate": 9.1e-4, "tokens_per_second": 2431.0, "memory_gb": 0.6, "seconds_left": 1.0}
    assert render_log(logs, 120) == "loss 5.9606  lr 9.10e-04  2,431 tokens/s  0.6 GB  2 min left"


def test_an_evaluation_is_one_line_with_its_change_and_the_lowest_so_far():
    history = [{"eval_bits_per_byte": bits, "step": step} for step, bits in ((0, 3.9), (48, 3.4), (96, 3.5))]
    metrics = {"eval_bits_per_byte": 3.3, "eval_loss": 4.1}
    assert render_evaluation(0, metrics, []) == "step 0: 3.3000 bits per byte, loss 4.1000"
    assert (
        render_evaluation(144, metrics, history)
        == "step 144: 3.3000 bits per byte (-0.2000, lowest so far), loss 4.1000"
    )
    worse = render_evaluation(2172, {**metrics, "eval_bits_per_byte": 3.6}, history)
    assert worse == "step 2,172: 3.6000 bits per byte (+0.1000, lowest 3.4000 at 48), loss 4.1000"
    assert len(worse) < 80
    assert find_lowest(history) == (3.4, 48)
    assert find_lowest([]) is None


def test_the_start_says_what_share_learns_and_for_how_long():
    from lmtune.training import plan

    def weight(count, learns):
        return SimpleNamespace(numel=lambda: count, requires_grad=learns)

    lora = SimpleNamespace(parameters=lambda: [weight(134_515_008, False), weight(2_442_240, True)])
    assert plan.render_parameters(lora) == "2.44M of 137M parameters learn (1.8%)"
    whole = SimpleNamespace(parameters=lambda: [weight(957_184, True)])
    assert plan.render_parameters(whole) == "957,184 parameters"
    args = SimpleNamespace(learning_rate=1e-3, lr_scheduler_type="cosine", get_warmup_steps=lambda steps: 66)
    trainer = SimpleNamespace(timeline=None, args=args)
    assert plan.render_schedule(trainer, COURSE) == "learning rate 0.001, cosine, 66 steps of warm-up"
    for schedule in ("constant", "reduce_lr_on_plateau", "greedy"):  # transformers gives them none
        args.lr_scheduler_type = schedule
        assert plan.render_schedule(trainer, COURSE) == f"learning rate 0.001, {schedule}"
    assert plan.render_epochs(COURSE) == "3 epochs"


def test_numbers_of_a_table_stand_apart():
    before, after = ({each.name: bits for each in SHOWN} for bits in (2918964.3003, 1568219.1898))
    amount = {"text": "t", "tokens": 2188, "limit": None}
    measures = {**after, **amount, "protocol": amount, "while_training": {**amount, "before": before, "after": after}}
    title, *rows = render_set("sample", measures)
    assert rows[0].split() == ["bits", "per", "byte", "2918964.3003", "1568219.1898"]
    assert len(title) == len(rows[0])


def test_what_can_be_typed_next_can_be_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "o meu modelo"
    folder.mkdir(parents=True)
    assert render_next(Run(folder), ["Era uma vez"]) == [
        "next:",
        "  lmtune generate 'ckpt=outputs/o meu modelo' 'prompt=Era uma vez'",
        "  lmtune eval 'ckpt=outputs/o meu modelo'",
    ]
    Run(folder).report_file.touch()
    assert render_next(Run(folder), [])[-1] == "  report: outputs/o meu modelo/report.html"
    assert render_resumption(Run(folder))[1] == "  lmtune train 'resume=outputs/o meu modelo'"


@pytest.mark.parametrize(
    ("evaluations", "steps", "is_said"), [(700.0, 300.0, True), (300.0, 700.0, False), (40.0, 5.0, False)]
)
def test_a_check_says_if_evaluations_take_most_of_a_run(evaluations, steps, is_said):
    parts = {"steps": steps, "evaluations": evaluations, "samples": 0.0, "saves": 0.0, "writing": 0.0}
    seconds = dict.fromkeys(("median", "low", "high"), steps + evaluations)
    cost = {"devices": 1, "steps": 4, "seconds": seconds, "seconds_of": parts, "kwh": None, "price": None}
    assert any("eval.max_tokens=" in line for line in _render_costs({"here": cost})) == is_said


@pytest.mark.parametrize(("found", "is_said"), [(3.3, True), (3.2, True), (3.1, False), (None, False)])
def test_a_model_that_is_no_better_than_frequencies_of_tokens_is_told(found, is_said):
    measures = {"bits_per_byte": found, "unigram_bits_per_byte": 3.2}
    told = render_shortfall({"eval": {"texts": measures, "other": {"bits_per_byte": 9.0}}})
    assert [line[:25] for line in told] == ([f"texts: {found:.4f} bits per byte"[:25]] if is_said else [])
    assert render_shortfall({"eval": {}}) == []


@pytest.mark.parametrize(
    ("ckpt", "shown"),
    [
        ("gpt2", "gpt2"),
        ("/home/somebody/outputs/killed/2026-11-27_00-53-16", "outputs/killed/2026-11-27_00-53-16"),
        ("outputs/sweeps/2026-11-27_00-53-16/3", "outputs/sweeps/2026-11-27_00-53-16/3"),
        ("a" * 50, "..." + "a" * 37),
    ],
)
def test_the_name_of_a_run_stands_whole_before_its_date(ckpt, shown):
    assert shorten(ckpt) == shown
