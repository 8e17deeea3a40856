"""By command: when keys have no effect.

A rule takes the configuration and what was typed, and returns why a key has no effect, or None if it works; its name says what has
to hold.
"""

import os
from collections.abc import Mapping

from lmtune.cli.effects.audit_rules import AUDIT_RULES, if_planted
from lmtune.cli.effects.card_rules import CARD_RULES, PUSH_RULES
from lmtune.cli.effects.forgetting_rules import FORGETTING_RULES
from lmtune.cli.effects.text_rules import (
    Rule,
    by,
    first_of,
    generation_rules,
    if_drawn,
    if_text_is_written,
    unless_in_grid,
)
from lmtune.cli.effects.unread import OF_LABELS
from lmtune.config import (
    CacheAction,
    CheckConfig,
    DataCommandConfig,
    EvalCommandConfig,
    EvalSplit,
    FinetuneMethod,
    ModelInit,
    OutputFormat,
    TokenizerCommandConfig,
    TrainConfig,
)
from lmtune.config.checks import is_there
from lmtune.config.conditions import LEAVE_ONE, Idle, if_evaluated, if_optimizer_has_betas, if_saved
from lmtune.config.ranges import render_value
from lmtune.upstream import Typed

WithModel = DataCommandConfig | TokenizerCommandConfig | TrainConfig

TIMED = ("check.steps", "check.seconds", "check.devices", "check.price_per_hour", "check.watts")

# Labels


def _if_data_is_own(config: TrainConfig, typed: Typed) -> Idle | None:
    if typed.keys & {"data.files", "data.sources", "data.path", "data.validation_files"}:
        return None
    return Idle(
        f"{OF_LABELS}, and {config.data.name} is not the text",
        "Choose a data set with data=, data.files= or data.path=.",
    )


def _if_model_is_own(config: TrainConfig, typed: Typed) -> Idle | None:
    if any(key == "model.path" or key.startswith("model.config") for key in typed.keys):
        return None
    return Idle(OF_LABELS, "Choose a model with model= or model.path=.")


# The model


def _if_probed(config: CheckConfig, typed: Typed) -> Idle | None:
    return None if config.check.probe else Idle("check.probe=false times nothing", "Leave it out.", "check.probe")


def _if_foretold(config: CheckConfig, typed: Typed) -> Idle | None:
    return None if config.check.forecast else Idle("nothing is foretold", "Give check.forecast=true.", "check.forecast")


def _if_revised(config: WithModel, typed: Typed) -> Idle | None:
    path = None if config.model is None else config.model.path
    if path is None:
        return Idle("no model of the Hub is named", "Leave it out, or give model.path=.", "model")
    if is_there(path):
        return Idle(f"model.path={path} is a folder, which has no revisions", "Leave it out.", "model.path")
    return None


def _if_vocabulary_is_learned(config: WithModel, typed: Typed) -> Idle | None:
    if config.model is not None and config.model.tokenizer == "learn":
        return None
    return Idle("the vocabulary is not learned here", "Leave it out, or give model.tokenizer=learn.", "model.tokenizer")


def _if_vocabulary_is_its_own(config: TokenizerCommandConfig, typed: Typed) -> Idle | None:
    if not config.extend:
        return None
    return Idle(
        "the vocabulary of model= is extended, and keeps what it has", "Leave it out, or leave extend= out.", "extend"
    )


def _if_ids_differ(config: TrainConfig, typed: Typed) -> Idle | None:
    if config.model.init is ModelInit.pretrained:
        return None
    return Idle("a model from scratch has no special ids of its own", "Leave it out.", "model.init")


def _if_rate_follows_model(config: TrainConfig, typed: Typed) -> Idle | None:
    rate = config.training.get("learning_rate")
    if config.finetune.method is FinetuneMethod.gradual:
        return Idle("with finetune=gradual each phase has its own rate", "Give finetune.phases=.", "finetune")
    if rate == config.model.learning_rate:
        return None
    return Idle(f"found training.learning_rate={rate}", "Give that instead, or leave it out.", "training.learning_rate")


# Which parameters are trained


def _if_gradual(config: TrainConfig, typed: Typed) -> Idle | None:
    return _if_method(config, FinetuneMethod.gradual)


def _if_momentum(config: TrainConfig, typed: Typed) -> Idle | None:
    return _if_gradual(config, typed) or if_optimizer_has_betas(config)


def _if_lora(config: TrainConfig, typed: Typed) -> Idle | None:
    return _if_method(config, FinetuneMethod.lora)


def _if_method(config: TrainConfig, wanted: FinetuneMethod) -> Idle | None:
    found = config.finetune.method
    if found is wanted:
        return None
    return Idle(
        f"finetune={found.value} has no such setting", f"Leave it out, or give finetune={wanted.value}.", "finetune"
    )


# What a run writes


def _if_sampled(config: TrainConfig, typed: Typed) -> Idle | None:
    if not config.samples.enabled:
        return Idle("found samples.enabled=false, and nothing is written while training", LEAVE_ONE, "samples.enabled")
    if not config.prompts:
        return Idle("there are no prompts to continue", "Leave it out, or give prompts=.", "prompts")
    nothing = if_evaluated(config)
    return nothing and Idle("samples are written at evaluations, and nothing is held out", nothing.remedy, nothing.by)


def _if_shown(config: TrainConfig, typed: Typed) -> Idle | None:
    if config.private:
        return Idle("private=true shows no sample", LEAVE_ONE, "private")
    return _if_sampled(config, typed)


def _if_reported(config: TrainConfig, typed: Typed) -> Idle | None:
    return None if config.report.enabled else Idle("report.enabled=false writes no page", LEAVE_ONE, "report.enabled")


def _if_prompts_follow_data(config: TrainConfig, typed: Typed) -> Idle | None:
    if config.prompts != config.data.prompts:
        return Idle("prompts= is what is continued", LEAVE_ONE, "prompts")
    return _if_sampled(config, typed)


def _if_epochs_follow_data(config: TrainConfig, typed: Typed) -> Idle | None:
    steps, epochs = config.training.get("max_steps") or -1, config.training.get("num_train_epochs")
    if steps > 0:
        return Idle(f"training.max_steps={steps} decides how long the run is", LEAVE_ONE, "training.max_steps")
    if config.finetune.method is FinetuneMethod.gradual:
        return Idle("with finetune=gradual the phases say how long they last", "Give finetune.phases=.", "finetune")
    if epochs == config.data.epochs:
        return None
    return Idle(
        f"found training.num_train_epochs={epochs}", "Give that instead, or leave it out.", "training.num_train_epochs"
    )


def _if_resumed(config: TrainConfig, typed: Typed) -> Idle | None:
    if config.resume != "off":
        return None
    return Idle("no run is resumed", "Leave it out, or name the run: resume=outputs/...", "resume")


def _if_tracker_has_projects(config: TrainConfig, typed: Typed) -> Idle | None:
    """Some tracker of the run takes tracker.project, and no environment variable overrides it."""
    told = {"trackio": "", "wandb": "WANDB_PROJECT", "mlflow": "MLFLOW_EXPERIMENT_NAME"}
    names = [name for name in config.tracker.names if name in told]
    if not names:
        tracker = render_value(config.tracker.name)
        return Idle(f"tracker={tracker} is not told of it", "Leave it out, or give tracker=trackio.", "tracker")
    variables = [told[name] for name in names]
    if all(variable in os.environ for variable in variables):
        return Idle(f"{' and '.join(variables)} in the environment says otherwise", LEAVE_ONE, "tracker")
    return None


def _if_one_text_is_kept(config: TrainConfig, typed: Typed) -> Idle | None:
    return Idle("a sample of a run is one text", "Leave it out, or give more prompts=.")


# Scores


def _if_text_is_scored(config: EvalCommandConfig, typed: Typed) -> Idle | None:
    if config.suite is None:
        return None
    return Idle(f"suite={config.suite.name} brings its own texts and protocol", LEAVE_ONE, "suite")


def _if_split_matters(config: EvalCommandConfig, typed: Typed) -> Idle | None:
    if config.suite is None and config.eval.split is EvalSplit.all:
        return Idle(
            "all of the text is scored, as eval.split=all or data.files= asks for",
            "Leave it out, or give eval.split=validation.",
            "eval.split",
        )
    return _if_text_is_scored(config, typed)


def _if_text_is_of_run(config: EvalCommandConfig, typed: Typed) -> Idle | None:
    if config.data is not None:
        return Idle(f"data={config.data.name} names the text, which no run is asked for", LEAVE_ONE, "data")
    return _if_text_is_scored(config, typed)


def _if_documents_are_written(config: EvalCommandConfig, typed: Typed) -> Idle | None:
    if not config.eval.per_document:
        return Idle(
            "nothing is written without eval.per_document=true", "Leave it out, or add that.", "eval.per_document"
        )
    if config.format is OutputFormat.json:
        return Idle("with format=json the documents stand in the JSON", LEAVE_ONE, "format")
    return _if_text_is_scored(config, typed)


def _if_harness(config: EvalCommandConfig, typed: Typed) -> Idle | None:
    if config.suite is None or config.suite.harness:
        return None
    return Idle(f"suite={config.suite.name} does not use the harness", "Leave it out, or give suite=lm_eval.", "suite")


def _if_zeroshot(config: EvalCommandConfig, typed: Typed) -> Idle | None:
    if config.suite is None or not config.suite.harness:
        return None
    return Idle(
        f"suite={config.suite.name} leaves that to the harness", "Leave it out, or give suite=gpt2-zeroshot.", "suite"
    )


def _if_prepared(config: DataCommandConfig, typed: Typed) -> Idle | None:
    if config.cache is CacheAction.off:
        return None
    return Idle(f"cache={config.cache.value} is about all that is kept, and reads no text", LEAVE_ONE, "cache")


def _if_text_is_shown(config: DataCommandConfig, typed: Typed) -> Idle | None:
    if config.shard is None and config.merge is None:
        return _if_prepared(config, typed)
    return Idle("no text is shown of parts", "Leave it out.", "shard" if config.merge is None else "merge")


TRAIN_RULES: Mapping[str, Rule] = {
    **generation_rules(_if_sampled),
    "generation.num_return_sequences": _if_one_text_is_kept,
    "data.name": _if_data_is_own,
    "data.epochs": _if_epochs_follow_data,
    "data.prompts": _if_prompts_follow_data,
    "prompts": _if_sampled,
    "samples.show": _if_shown,
    "samples.seed": _if_sampled,
    "report.language": _if_reported,
    "model.name": _if_model_is_own,
    "model.revision": _if_revised,
    "model.vocab_size": _if_vocabulary_is_learned,
    "model.legacy_ids": _if_ids_differ,
    "model.learning_rate": _if_rate_follows_model,
    **dict.fromkeys(
        ("finetune.block_groups", "finetune.phases", "finetune.pct_start", "finetune.div", "finetune.div_final"),
        _if_gradual,
    ),
    "finetune.momentum": _if_momentum,
    **dict.fromkeys(("finetune.rank", "finetune.alpha", "finetune.dropout", "finetune.target_modules"), _if_lora),
    **dict.fromkeys(("finetune.embeddings", "finetune.merge"), _if_lora),
    "tracker.project": _if_tracker_has_projects,
    "audit.repeats": if_planted,
    **dict.fromkeys(
        (f"eval.{name}" for name in ("context", "stride", "dtype", "max_tokens", "final_max_tokens", "max_lost")),
        by(if_evaluated),
    ),
    **FORGETTING_RULES,
    **CARD_RULES,
    "resume_force": _if_resumed,
    "stop_on_failed_save": by(if_saved),
}

RULES: Mapping[str, Mapping[str, Rule]] = {
    "train": TRAIN_RULES,
    "check": {**TRAIN_RULES, **dict.fromkeys(TIMED, _if_probed), "check.forecast_share": _if_foretold},
    "lr-find": {**TRAIN_RULES, "range.phase": _if_gradual},
    "eval": {
        **dict.fromkeys(
            ("eval.stride", "eval.per_document", "eval.split", "eval.max_tokens", "eval.max_lost"), _if_text_is_scored
        ),
        **dict.fromkeys(
            ("data.seed", "data.validation_fraction", "data.test_fraction", "data.split_by"), _if_split_matters
        ),
        "changed_text": _if_text_is_of_run,
        "output": _if_documents_are_written,
        "suite.include": _if_harness,
        **dict.fromkeys(("suite.profile", "suite.files"), _if_zeroshot),
    },
    "data": {
        **dict.fromkeys(("data", "model", "shard", "output", "merge"), _if_prepared),
        "private": _if_text_is_shown,
        "model.revision": first_of(_if_prepared, _if_revised),
        "model.vocab_size": first_of(_if_prepared, _if_vocabulary_is_learned),
    },
    "tokenizer": {
        "model.revision": _if_revised,
        **dict.fromkeys(
            (f"tokenizer.{name}" for name in ("vocab_size", "special_tokens", "max_length")), _if_vocabulary_is_its_own
        ),
    },
    "export": {},
    "fetch": {"model.revision": _if_revised},
    "push": PUSH_RULES,
    "audit": AUDIT_RULES,
    "report": {},
    "generate": {
        **generation_rules(if_text_is_written),
        "generation.temperature": unless_in_grid("temperature"),
        "generation.top_k": unless_in_grid("top_k"),
        "grid": if_drawn,
        "seed": if_drawn,
    },
    "runs": {},
    "compare": {},
    "chat": generation_rules(),
    "serve": {},
}
"""By command: the rule for a key and those below it."""
