"""The configuration: dataclasses that explain and check each key. Nothing here imports torch.

The values live in conf/ (one YAML group for each class). These classes give Hydra the names and types that it checks the command
line and every YAML file against, and raise ConfigError for values that cannot work.
"""

from lmtune.config.audit import AuditCommandConfig, AuditConfig, CanaryConfig
from lmtune.config.card import CardConfig
from lmtune.config.chat import ChatConfig
from lmtune.config.checks import render_plain
from lmtune.config.commands import (
    CacheAction,
    DataCommandConfig,
    EvalCommandConfig,
    ExportConfig,
    ExportDtype,
    ExportFormat,
    GenerateConfig,
    GridConfig,
    OutputFormat,
)
from lmtune.config.data import DataConfig, DocumentRule, SplitRule, UnicodeForm, load_data_config
from lmtune.config.evaluation import ZEROSHOT_TASKS, EvalConfig, EvalPrecision, EvalSplit, SuiteConfig, SuiteProfile
from lmtune.config.fetch import FetchConfig
from lmtune.config.finetune import FinetuneConfig, FinetuneMethod, PhaseConfig
from lmtune.config.forgetting import ForgettingConfig
from lmtune.config.model import LossChoice, ModelConfig, ModelInit, SaveDtype, Transplant, load_model_config
from lmtune.config.pages import PageConfig, ReportCommandConfig, ReportConfig, ReportLanguage
from lmtune.config.push import PushConfig
from lmtune.config.runs import CompareConfig, ComparisonFormat, RunsConfig
from lmtune.config.serve import LongPrompt, ServeConfig, ServePrecision, ServeSettings
from lmtune.config.tokenizer import TokenizerCommandConfig, TokenizerConfig, TokenizerText
from lmtune.config.train import FORECAST_SHARES, CheckConfig, ForesightConfig, LrFindConfig, RangeConfig, TrainConfig
from lmtune.config.training import (
    AverageConfig,
    BatchConfig,
    EarlyStoppingConfig,
    SamplesConfig,
    TrackerConfig,
)

__all__ = [
    "FORECAST_SHARES",
    "ZEROSHOT_TASKS",
    "AuditCommandConfig",
    "AuditConfig",
    "AverageConfig",
    "BatchConfig",
    "CacheAction",
    "CanaryConfig",
    "CardConfig",
    "ChatConfig",
    "CheckConfig",
    "CompareConfig",
    "ComparisonFormat",
    "DataCommandConfig",
    "DataConfig",
    "DocumentRule",
    "EarlyStoppingConfig",
    "EvalCommandConfig",
    "EvalConfig",
    "EvalPrecision",
    "EvalSplit",
    "ExportConfig",
    "ExportDtype",
    "ExportFormat",
    "FetchConfig",
    "FinetuneConfig",
    "FinetuneMethod",
    "ForesightConfig",
    "ForgettingConfig",
    "GenerateConfig",
    "GridConfig",
    "LongPrompt",
    "LossChoice",
    "LrFindConfig",
    "ModelConfig",
    "ModelInit",
    "OutputFormat",
    "PageConfig",
    "PhaseConfig",
    "PushConfig",
    "RangeConfig",
    "ReportCommandConfig",
    "ReportConfig",
    "ReportLanguage",
    "RunsConfig",
    "SamplesConfig",
    "SaveDtype",
    "ServeConfig",
    "ServePrecision",
    "ServeSettings",
    "SplitRule",
    "SuiteConfig",
    "SuiteProfile",
    "TokenizerCommandConfig",
    "TokenizerConfig",
    "TokenizerText",
    "TrackerConfig",
    "TrainConfig",
    "Transplant",
    "UnicodeForm",
    "load_data_config",
    "load_model_config",
    "render_plain",
]
