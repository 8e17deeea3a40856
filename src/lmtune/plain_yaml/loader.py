"""PyYAML's safe loader, bounded in what it composes, with the numbers that OmegaConf takes for numbers."""

import re
from typing import Any

import yaml

MAX_DEPTH = 40
TAG = "tag:yaml.org,2002:"


class BoundError(Exception):
    """There is more in a file than a config can need."""


class Loader(yaml.SafeLoader):
    """Composes nodes as far as the bounds allow."""

    def __init__(self, text: str, most: int) -> None:
        super().__init__(text)
        self.most = most
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.most -= 1
        if self.depth > MAX_DEPTH or self.most < 0:
            raise BoundError(f"levels inside each other, over {MAX_DEPTH}" if self.most >= 0 else "values")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{TAG}timestamp"]  # a date stays text
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class ConfigLoader(Loader):
    """Takes 1e5 and 5e-5 for numbers, as OmegaConf does; yaml.safe_dump, which writes records, takes them for text."""


ConfigLoader.add_implicit_resolver(
    f"{TAG}float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
