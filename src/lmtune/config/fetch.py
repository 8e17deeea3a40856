"""Configuration of `lmtune fetch`."""

from dataclasses import dataclass

from lmtune.config.checks import CommandConfig
from lmtune.config.commands import OutputFormat
from lmtune.config.data import DataConfig
from lmtune.config.evaluation import SuiteConfig
from lmtune.config.keys import key
from lmtune.config.model import ModelConfig
from lmtune.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class FetchConfig(CommandConfig):
    """`lmtune fetch`."""

    output: str = key("fetched", literal=True)
    """Folder to fill: a new one, or one that `lmtune fetch` has filled before."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: a table for people, or one JSON document."""
    data: DataConfig | None = key(None, absent="no data set is fetched")
    """The data set to fetch; none by default."""
    model: ModelConfig | None = key(None, absent="no model is fetched")
    """The model to fetch, with the base model of an adapter and another tokenizer; none by default."""
    suite: SuiteConfig | None = key(None, absent="no benchmark is fetched")
    """The benchmark whose data sets are fetched; none by default."""

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before the Hub is asked."""
        if self.data is None and self.model is None and self.suite is None:
            raise ConfigError(
                "lmtune fetch needs what to fetch, found none. Name it as lmtune train does: data=bio, model=gpt2-small-pt, "
                "model.path=openai-community/gpt2; or suite=gpt2-zeroshot."
            )
        if self.data is not None:
            self._check_data(self.data)
        if self.model is not None:
            self.model.check_source()
        if self.suite is not None:
            self._check_suite(self.suite)

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Make paths absolute."""
        if self.data is not None:
            self.data.anchor()
        if self.model is not None:
            self.model.anchor()

    def _check_data(self, data: DataConfig) -> None:
        data.check_source()
        if data.given_files is not None:
            raise ConfigError(
                f"data={data.name} reads files, which are carried as they are; expected a data set of the Hub, such as data=bio or "
                "data.path=USER/SET. Leave it out."
            )

    def _check_suite(self, suite: SuiteConfig) -> None:
        suite.check_settings()
        if suite.harness:
            raise ConfigError(
                f"suite={suite.name} is run by EleutherAI's harness, whose tasks load their data themselves; expected "
                "suite=gpt2-zeroshot. Run lmtune eval with it once, with HF_HOME set to the folder that you carry."
            )
