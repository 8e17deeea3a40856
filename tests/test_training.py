"""The loop: a true loss, samples without a trace, whole checkpoints, exact resume, and stopping when asked."""

import copy
import functools
import math
import signal

import numpy as np
import pytest
import torch
from helpers import write_texts
from transformers import Trainer, TrainerCallback, TrainingArguments

from lmtune.config import DataConfig, TrainConfig
from lmtune.data.blocks import collate
from lmtune.data.corpus import Corpus
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import ConfigError, Stopped, TrainingError
from lmtune.evaluation.evaluator import Scoring, evaluate_documents
from lmtune.modeling.generation import generate_aside
from lmtune.runs import MANIFEST, Run, find_fault
from lmtune.runs.evaluations import Evaluation, check_set_names, find_evaluation, flatten_measures, read_evaluations
from lmtune.storage import load_json, load_jsonl
from lmtune.training.arguments import build_arguments, settle_intervals
from lmtune.training.callbacks import EvaluateAndSaveAtEnd, MetricsCallback
from lmtune.training.samples import SamplesCallback, render_samples
from lmtune.training.signals import StopOnSignal
from lmtune.training.trainer import LmTrainer

QUIET = {"use_cpu": True, "disable_tqdm": True, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture
def prepared(tmp_path, tokenizer, texts):
    file = tmp_path / "text.jsonl"
    write_texts(file, texts)
    return EncodedCorpus(Corpus(DataConfig(files=str(file)), 0), tokenizer).prepare(16)


@pytest.fixture
def build_trainer(tmp_path, tokenizer, prepared, build_tiny, begin_run):
    """A function that builds a trainer in a run folder of its own; signals are as they were afterwards, however it ended."""
    stops = []

    def build(name="run", model=None, callbacks=(), prompts=(), **settings):
        model = model or build_tiny()
        run = Run(tmp_path / name) if (tmp_path / name).exists() else begin_run(tmp_path / name)
        training = {**QUIET, "max_steps": 8, "eval_steps": 4, "eval_strategy": "steps", "metric_for_best_model": "bits_per_byte",
                    "greater_is_better": False, "load_best_model_at_end": True, "save_total_limit": 2, **settings}  # fmt: skip
        config = TrainConfig(seed=7, training=training)
        config.tracker = type("Tracker", (), {"name": "none", "project": "lmtune"})()
        arguments = build_arguments(config, run.folder, has_validation=True)
        chosen = [MetricsCallback(run), *callbacks]
        if prompts:

            def write(beginnings):
                return generate_aside(model, tokenizer, beginnings, {"do_sample": True, "max_new_tokens": 5}, seed=0)

            chosen.append(SamplesCallback(run, list(prompts), write, show=0))
        trainer = LmTrainer(
            model=model,
            args=arguments,
            rows=prepared.blocks,
            tokenizer=tokenizer,
            score=lambda scored: {
                "text": evaluate_documents(scored, prepared.held_out["validation"], Scoring(16, 4))[0]
            },
        )
        stops.append(StopOnSignal(int))
        for callback in [*chosen, EvaluateAndSaveAtEnd(), stops[-1]]:
            trainer.add_callback(callback)
        trainer.attach(run, {"lmtune": "test"})
        return trainer

    yield build
    for stop in reversed(stops):
        stop.restore()


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_bit_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_the_training_loss_is_the_true_mean_over_targets(build_trainer, build_tiny, prepared, kind):
    """GPT-2's (T-1)/T bias under Trainer 5.23 is gone."""
    trainer = build_trainer(model=build_tiny(kind))
    batch = prepared.blocks.__getitems__([0, 1, len(prepared.blocks) - 1])
    _, targets = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=targets)
    logits = trainer.model(input_ids=batch["input_ids"], use_cache=False).logits
    wanted = batch["shift_labels"]
    true = torch.nn.functional.cross_entropy(logits.double().flatten(0, 1), wanted.flatten(), ignore_index=-100)
    assert int(targets) == int((wanted >= 0).sum())
    assert loss.item() == pytest.approx(true.item(), rel=1e-6)


def test_plain_trainer_still_has_the_bias_that_is_mended_here(tmp_path, build_tiny):
    """If this fails, transformers has mended it, and _with_true_loss can go."""
    model = build_tiny()
    model.loss_type = None
    trainer = Trainer(model, TrainingArguments(str(tmp_path), report_to="none", **QUIET), data_collator=collate)
    ids = torch.randint(1, 300, (2, 8))
    _, counted = trainer.get_batch_samples(iter([{"input_ids": ids, "labels": ids}]), 1, torch.device("cpu"))
    assert int(counted) == 16, "of 16 places only 14 have a target"


def test_samples_leave_the_weights_bit_equal(build_trainer, build_tiny):
    """Dropout is on, so any draw from the training's random numbers would show."""
    silent = build_trainer("silent", build_tiny())
    silent.fit(None)
    talking = build_trainer("talking", build_tiny(), prompts=["O paciente", "A médica"])
    talking.fit(None)
    assert_bit_equal(weights(silent.model), weights(talking.model))
    records = load_jsonl(talking.run.samples_file)
    assert [record["step"] for record in records] == [4, 8]
    assert records[0]["samples"][0]["prompt"] == "O paciente"
    assert "## O paciente" in talking.run.samples_page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("accumulation", "interrupted_at"), [(1, 4), (2, 4), (1, 6)])
def test_a_resumed_run_ends_bit_equal(build_trainer, build_tiny, accumulation, interrupted_at):
    settings = {"gradient_accumulation_steps": accumulation, "eval_steps": 2}
    straight = build_trainer("straight", build_tiny(), **settings)
    straight.fit(None)

    class Cut(TrainerCallback):
        def on_save(self, args, state, control, **_):
            if state.global_step == interrupted_at:
                raise KeyboardInterrupt

    broken = build_trainer("broken", build_tiny(), callbacks=[Cut()], **settings)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(None)
    resumed = build_trainer("broken", build_tiny(seed=99), **settings)
    checkpoint, _ = resumed.run.find_checkpoint()
    resumed.fit(checkpoint)
    assert_bit_equal(weights(straight.model), weights(resumed.model))
    assert resumed.trained.targets == straight.trained.targets
    assert resumed.state.best_global_step == straight.state.best_global_step
    logged = [
        [line["step"] for line in load_jsonl(trainer.run.metrics_file) if "eval_loss" in line]
        for trainer in (straight, resumed)
    ]
    assert logged[0] == logged[1]


def test_a_finished_run_is_not_trained_further(build_trainer, build_tiny):
    trainer = build_trainer()
    trainer.fit(None)
    again = build_trainer(model=build_tiny(seed=99))
    checkpoint, _ = again.run.find_checkpoint()
    again.fit(checkpoint)
    assert again.state.global_step == 8
    assert_bit_equal(weights(trainer.model), weights(again.model))


def test_checkpoints_are_sealed_and_rotated_with_the_best_kept(build_trainer):
    best_first = {"text": iter([1.0, 2.0, 3.0, 4.0])}
    trainer = build_trainer(eval_steps=2, learning_rate=1e-3)
    trainer.score = lambda model: {"text": {"loss": 1.0, "bits_per_byte": next(best_first["text"])}}
    trainer.fit(None)
    folders = trainer.run.checkpoints()
    assert [folder.name for folder in folders] == ["checkpoint-8", "checkpoint-6", "checkpoint-2"]
    assert all(find_fault(folder) is None for folder in folders)
    assert trainer.state.best_model_checkpoint == str(folders[-1])
    manifest = load_json(folders[0] / MANIFEST)
    assert (manifest["step"], manifest["lmtune"]) == (8, "test")
    assert {
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "tokenizer.json",
    } <= set(manifest["files"])
    assert "training_args.bin" not in manifest["files"]


def test_one_checkpoint_besides_the_best_is_the_last(build_trainer):
    """Told save_total_limit=1, Trainer itself deletes the last checkpoint at the end, and nothing can be resumed."""
    trainer = build_trainer(eval_steps=2, save_total_limit=1)
    scores = iter([2.0, 1.0, 3.0, 4.0])
    trainer.score = lambda model: {"text": {"loss": 1.0, "bits_per_byte": next(scores)}}
    trainer.fit(None)
    assert [folder.name for folder in trainer.run.checkpoints()] == ["checkpoint-8", "checkpoint-4"]


@pytest.mark.parametrize(("metric", "best"), [("accuracy", max), ("perplexity", min)])
def test_the_best_checkpoint_is_the_best_by_its_metric(build_trainer, build_tiny, metric, best):
    trainer = build_trainer(
        model=build_tiny(), metric_for_best_model=metric, greater_is_better=None, eval_steps=2, learning_rate=0.05
    )
    trainer.fit(None)
    scored = {
        line["step"]: line[f"eval_{metric}"] for line in load_jsonl(trainer.run.metrics_file) if "eval_loss" in line
    }
    assert trainer.state.best_metric == best(scored.values())
    assert scored[trainer.state.best_global_step] == best(scored.values())


def test_a_moved_run_folder_keeps_its_best(build_trainer, build_tiny, tmp_path):
    trainer = build_trainer("before", eval_steps=4)
    trainer.fit(None)
    trainer.run.folder.rename(tmp_path / "after")
    moved = build_trainer("after", build_tiny(seed=99))
    checkpoint, _ = moved.run.find_checkpoint()
    moved.fit(checkpoint)
    assert moved.state.best_model_checkpoint == str(tmp_path / "after" / f"checkpoint-{trainer.state.best_global_step}")


def test_the_best_checkpoint_is_remembered_where_saves_are_sparser_than_evaluations(build_trainer, build_tiny):
    scores = iter([5.0, 1.0, 0.5, 4.0, 3.0, 3.0, 3.0, 3.0])  # best saved at step 2, better still but unsaved at step 3
    settings = {"eval_steps": 1, "save_steps": 2}

    class Cut(TrainerCallback):
        def on_save(self, args, state, control, **_):
            if state.global_step == 4:
                raise KeyboardInterrupt

    trainer = build_trainer(callbacks=[Cut()], **settings)
    trainer.score = lambda model: {"text": {"loss": 1.0, "bits_per_byte": next(scores)}}
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(None)
    resumed = build_trainer(model=build_tiny(seed=99), **settings)
    resumed.score = trainer.score
    resumed.fit(resumed.run.find_checkpoint()[0])
    assert resumed.best_step == trainer.best_step == 2


def test_shares_of_a_run_keep_saves_on_evaluations(build_trainer):
    trainer = build_trainer(max_steps=25, eval_steps=0.1, save_steps=0.2)
    settle_intervals(trainer.args, 25)
    assert (trainer.args.eval_steps, trainer.args.save_steps) == (3, 6)


def test_every_target_of_an_epoch_is_learned_once(build_trainer, prepared):
    trainer = build_trainer(max_steps=-1, num_train_epochs=2, eval_strategy="no", load_best_model_at_end=False)
    trainer.fit(None)
    assert trainer.trained.targets == 2 * prepared.ledger.targets


def cramp(trainer, since=0):
    """Let the model have no room for more than three rows after so many steps."""
    own = trainer.model.forward

    def forward(*args, **kwargs):
        if len(kwargs["input_ids"]) > 3 and trainer.model.training and trainer.state.global_step >= since:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GB")
        return own(*args, **kwargs)

    trainer.model.forward = functools.wraps(own)(forward)


def test_less_memory_means_more_passes_and_the_same_step(build_trainer, build_tiny, prepared):
    settings = {"max_steps": -1, "num_train_epochs": 1, "eval_strategy": "no", "load_best_model_at_end": False,
                "per_device_train_batch_size": 8, "optim": "sgd"}  # fmt: skip
    roomy = build_trainer("roomy", build_tiny(), **settings)
    roomy.fit(None)
    small = build_trainer("small", build_tiny(), auto_find_batch_size=True, **settings)
    cramp(small)
    small.fit(None)
    assert (small.args.per_device_train_batch_size, small.args.gradient_accumulation_steps) == (2, 4)
    assert small.trained.targets == roomy.trained.targets == prepared.ledger.targets
    assert small.state.global_step == roomy.state.global_step


@pytest.mark.parametrize("of_trainer", [True, False], ids=["Trainer's optimizer", "another optimizer"])
def test_what_a_try_has_learned_before_its_memory_ran_out_is_forgotten(build_trainer, build_tiny, of_trainer):
    model = build_tiny()
    settings = {"max_steps": 4, "eval_steps": 1, "load_best_model_at_end": False, "optim": "adamw_torch"}
    small, roomy = (
        build_trainer(name, copy.deepcopy(model), eval_on_start=True, **settings, **batch)
        for name, batch in {
            "small": {"per_device_train_batch_size": 4, "auto_find_batch_size": True},
            "roomy": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        }.items()
    )
    cramp(small, since=3)
    for trainer in (small, roomy):
        if not of_trainer:
            trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-3)
        torch.manual_seed(1)
        trainer.fit(None)
    assert small.args.per_device_train_batch_size == 2
    assert_bit_equal(weights(small.model), weights(roomy.model))
    told, expected = (
        [(line["step"], line.get("eval_loss")) for line in load_jsonl(trainer.run.metrics_file)]
        for trainer in (small, roomy)
    )
    assert told == expected


def test_a_try_on_top_of_a_checkpoint_begins_at_the_checkpoint(build_trainer, build_tiny):
    model = build_tiny()
    settings = {"max_steps": 8, "load_best_model_at_end": False, "optim": "adamw_torch"}
    small = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    whole = build_trainer("whole", copy.deepcopy(model), **settings, **small)
    whole.fit(None)
    cut = build_trainer("whole", copy.deepcopy(model), auto_find_batch_size=True, **settings)
    cramp(cut, since=6)
    cut.fit(cut.run.folder / "checkpoint-4")
    assert_bit_equal(weights(whole.model), weights(cut.model))


def test_each_log_tells_the_pace(build_trainer):
    trainer = build_trainer(logging_steps=2)
    trainer.fit(None)
    logged = [line for line in load_jsonl(trainer.run.metrics_file) if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4, 6, 8]
    assert all(line["tokens_per_second"] > 0 and line["memory_gb"] > 0.1 for line in logged)
    assert logged[0]["seconds_left"] > logged[-1]["seconds_left"] == 0
    assert "mfu" not in logged[0], "nobody knows the peak of this CPU"


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(build_trainer):
    class Poison(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            if state.global_step == 5:
                with torch.no_grad():
                    model.get_input_embeddings().weight.fill_(math.nan)

    trainer = build_trainer(callbacks=[Poison()], logging_steps=100, gradient_accumulation_steps=2)
    with pytest.raises(
        TrainingError,
        match=r"became nan at step 6, batch 1 of 2 \(learning rate \d.*The last good checkpoint is checkpoint-4\. Lower training\.learning_rate",
    ):
        trainer.fit(None)
    assert [folder.name for folder in trainer.run.checkpoints()] == ["checkpoint-4"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_at_the_step_and_stops(build_trainer, build_tiny, number):
    class Send(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 2:
                signal.raise_signal(number)

    before = signal.getsignal(number)
    trainer = build_trainer(callbacks=[Send()])
    with pytest.raises(Stopped) as stopped:
        trainer.fit(None)
    assert (stopped.value.step, stopped.value.exit_code) == (3, 128 + number)
    assert signal.getsignal(number) is before
    straight = build_trainer("straight", build_tiny())
    straight.fit(None)
    resumed = build_trainer("run", build_tiny(seed=99))
    resumed.fit(trainer.run.find_checkpoint()[0])
    assert_bit_equal(weights(straight.model), weights(resumed.model))


def test_training_and_evaluation_agree(build_trainer, prepared):
    trainer = build_trainer()
    trainer.fit(None)
    last = [line for line in load_jsonl(trainer.run.metrics_file) if "eval_loss" in line][-1]
    fresh = evaluate_documents(copy.deepcopy(trainer.model), prepared.held_out["validation"], Scoring(16, 1))[0]
    assert trainer.state.best_global_step == last["step"]
    for name in ("loss", "bits_per_byte", "accuracy", "word_perplexity"):
        assert last[f"eval_{name}"] == pytest.approx(fresh[name], rel=1e-6)


def test_further_sets_stand_under_their_names():
    sets = {"bio": {"loss": 1.0, "protocol": {}}, "wiki": {"loss": 2.0}}
    assert flatten_measures(sets, "eval") == {"eval_loss": 1.0, "eval_wiki_loss": 2.0}


def test_evaluations_are_read_back_from_their_flat_names():
    sets = {"bio": {"loss": 1.0, "tokens": 9}, "wiki": {"loss": 2.0, "tokens": 8}}
    line = {"step": 4, "epoch": 0.5, "train_seconds": 2.0, **flatten_measures(sets)}
    found = read_evaluations([{"step": 4, "loss": 3.0}, line], sets)
    assert found == [Evaluation(4, 0.5, 2.0, sets)]
    assert find_evaluation(found, 3) is None


def test_a_set_called_as_a_measure_starts_is_taken_where_no_name_is_used_twice():
    check_set_names(["bio", "bits_per"])


@pytest.mark.parametrize("name", ["word", "separator"])
def test_a_set_whose_measures_would_be_named_as_others_is_refused(name):
    with pytest.raises(ConfigError, match=rf"eval_data={name}: its measure would be logged as eval_{name}_"):
        check_set_names(["bio", name])


def test_a_set_called_after_another_set_and_the_start_of_a_measure_is_refused():
    with pytest.raises(ConfigError, match=r"eval_data=bio_word: .* eval_bio_word_perplexity"):
        check_set_names(["wiki", "bio", "bio_word"])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"optim": "adamm"}, r"training\.\*: .*adamm"),
        ({"eval_steps": 4, "save_steps": 5}, r"saving steps to be a (round )?multiple"),
    ],
)
def test_settings_that_transformers_refuses_are_errors_of_ours(build_trainer, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        build_trainer(**settings)


def test_without_evaluation_checkpoints_are_still_written(build_trainer):
    trainer = build_trainer(eval_strategy="no", save_steps=4)
    trainer.fit(None)
    assert [folder.name for folder in trainer.run.checkpoints()] == ["checkpoint-8", "checkpoint-4"]


def test_samples_are_told_step_by_step():
    page = render_samples([{"step": n, "samples": [{"prompt": "Era", "text": f"Era {n}"}]} for n in (0, 1000)])
    assert page.splitlines() == [
        "# Samples",
        "",
        "## Era",
        "",
        "Step 0",
        "",
        "> Era 0",
        "",
        "Step 1,000",
        "",
        "> Era 1000",
    ]


def test_random_states_are_those_of_before(build_tiny, tokenizer):
    model = build_tiny().train()
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    one = generate_aside(model, tokenizer, ["O"], {"do_sample": True, "max_new_tokens": 6}, seed=3)
    assert one == generate_aside(model, tokenizer, ["O"], {"do_sample": True, "max_new_tokens": 6}, seed=3)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert model.training
