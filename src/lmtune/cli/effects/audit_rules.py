"""When keys of canaries and of `lmtune audit` have no effect."""

from collections.abc import Callable, Mapping

from lmtune.config import AuditCommandConfig, TrainConfig
from lmtune.config.conditions import LEAVE_ONE, Idle
from lmtune.data.identifiers import list_absent
from lmtune.upstream import Typed
from lmtune.versions import render_install

AuditRule = Callable[[AuditCommandConfig, Typed], Idle | None]


def plants(config: object) -> bool:
    """True for a training whose text gets canaries, which are drawn by data.seed whatever is held out."""
    return isinstance(config, TrainConfig) and config.audit.canaries is not None


def if_planted(config: TrainConfig, typed: Typed) -> Idle | None:
    """Canaries are planted."""
    if config.audit.canaries is not None:
        return None
    return Idle("no canaries are planted", "Leave it out, or give audit.canaries=.", "audit.canaries")


def _if_asked(*budgets: str) -> AuditRule:
    """At least one of some budgets is above 0."""

    def check(config: AuditCommandConfig, typed: Typed) -> Idle | None:
        if any(getattr(config.audit, name) for name in budgets):
            return None
        named = " and ".join(f"audit.{name}=0" for name in budgets)
        return Idle(f"{named} asks for none", "Leave it out, or give more than 0.", f"audit.{budgets[0]}")

    return check


def _if_installed(config: AuditCommandConfig, typed: Typed) -> Idle | None:
    if not config.audit.identifiers or not list_absent():
        return None
    return Idle(
        f"the packages that know identifiers are not installed: {render_install(*list_absent())}",
        "Install them, or give audit.identifiers=0.",
    )


def _if_searched(config: AuditCommandConfig, typed: Typed) -> Idle | None:
    return _if_asked("identifiers")(config, typed) or _if_installed(config, typed)


def _if_shown(config: AuditCommandConfig, typed: Typed) -> Idle | None:
    if config.private:
        return Idle("private=true shows no text", LEAVE_ONE, "private")
    return _if_asked("passages")(config, typed)


AUDIT_RULES: Mapping[str, AuditRule] = {
    **dict.fromkeys(("audit.controls", "audit.false_alarms"), _if_asked("candidates")),
    "audit.continuation": _if_asked("passages"),
    "audit.show": _if_shown,
    "audit.identifiers": _if_installed,
    "audit.scan_bytes": _if_searched,
    **dict.fromkeys(("audit.prefix", "audit.tries", "audit.base"), _if_asked("passages", "identifiers")),
    "changed_text": _if_asked("passages", "identifiers"),
}
