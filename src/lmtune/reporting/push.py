"""The account of a push to the Hub, done or as a dry run."""

from lmtune.config import CardConfig, render_plain
from lmtune.reporting.card_facts import list_languages
from lmtune.storage import Record
from lmtune.units import render_size

SAID = (
    *("license", "authors", "contact", "intended_use", "out_of_scope", "limits", "personal_data", "ethics"),
    *("data", "energy", "citation"),
)
"""Keys of card.* that leave a gap in the card if they are not set."""

LABEL, NAME = 14, 28
"""Characters of the columns with labels and names."""


def list_unstated(card: CardConfig, told: Record, results: Record) -> list[str]:
    """Keys of what the card shows as not stated. told: the settings of the run."""
    plain = render_plain(card)
    if plain["energy"] is None:
        plain["energy"] = results["train"].get("energy")
    open_keys = [name for name in SAID if plain[name] is None]
    if not list_languages({**told, "card": plain}):
        open_keys.append("language")
    if not (plain["data_license"] or told["data"].get("license")):
        open_keys.append("data_license")
    return [f"card.{name}" for name in open_keys]


def render_push(account: Record) -> list[str]:
    """Results of `lmtune push`: the repository, files sent and kept back, and what the card leaves open."""
    size = sum(file["bytes"] for file in account["files"])
    verb = "would go" if account["dry_run"] else "went"
    lines = _render_place(account)
    lines += ["", f"{len(account['files'])} files, {size / 1e6:,.1f} MB, {verb}:"]
    lines += [f"  {file['name']:<{NAME}}{render_size(file['bytes']):>12}  {file['why']}" for file in account["files"]]
    lines += ["", "stays here:"]
    lines += [f"  {file['name']:<{NAME}}{'':>12}  {file['why']}" for file in account["stays"]]
    if account["unstated"]:
        lines += ["", f'the card says "not stated" of: {", ".join(account["unstated"])}']
    return [*lines, "", f"would be refused: {account['refused']}"] if account["refused"] else lines


def _render_place(account: Record) -> list[str]:
    if account["dry_run"]:
        return [f"{'repository':<{LABEL}}{account['repo']}, nothing was sent"]
    known = "" if account["changed"] else ", which holds all of this already"
    lines = [
        f"{'repository':<{LABEL}}{account['address']}, {account['state']}",
        f"{'commit':<{LABEL}}{account['url']}{known}",
    ]
    return [*lines, f"{'removed there':<{LABEL}}{', '.join(account['removed'])}"] if account["removed"] else lines
