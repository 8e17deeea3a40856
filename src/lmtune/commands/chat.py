"""`lmtune chat`: a prompt line; the model stays loaded, and settings change between texts.

lmtune chat ckpt=outputs/...
lmtune chat ckpt=[outputs/...,gpt2] generation.temperature=0.7
lmtune chat ckpt=outputs/... top=10 < prompts.txt
"""

import logging

from lmtune import console
from lmtune.chat.lines import Change, Order, Prompt, Reset, parse_line, render_help
from lmtune.chat.screen import Screen
from lmtune.chat.session import Session, load_subjects
from lmtune.commands.result import Result
from lmtune.config import ChatConfig, OutputFormat
from lmtune.errors import LmtuneError
from lmtune.patience import rest
from lmtune.reporting.tables import render_answers

logger = logging.getLogger(__name__)

WELCOME = "A line is a prompt; /help lists what else there is, Ctrl-D leaves."
STOP = object()


def run(config: ChatConfig) -> Result:
    """Answer line by line until there are no more."""
    session = Session(load_subjects(config), config)
    rest()
    with console.lend_results() as stdout:
        screen = Screen(stdout)
        if screen.interactive:
            for remark in [*session.render_subjects(), WELCOME]:
                logger.info(remark)
        for line in screen.read_lines():
            try:
                if obey(line, session, screen) is STOP:
                    break
            except LmtuneError as error:
                if not screen.interactive:
                    raise
                logger.warning("%s", error)
            except KeyboardInterrupt:
                if not screen.interactive:
                    raise
                screen.end_text()  # it ends here, and the chat goes on
    return Result(session.answers, list)


def obey(line: str, session: Session, screen: Screen) -> object:
    """Do what a line asks for; STOP where that is to leave."""
    asked = parse_line(line)
    if isinstance(asked, Prompt):
        answer(dict.fromkeys(session.subjects, asked.text), session, screen)
    elif isinstance(asked, Change):
        session.change(asked.name, asked.value)
    elif isinstance(asked, Reset):
        session.reset(asked.name)
    elif isinstance(asked, Order):
        return follow(asked.name, session, screen)
    return None


def follow(order: str, session: Session, screen: Screen) -> object:
    """Do what an order says."""
    match order:
        case "more":
            answer(session.ask_more(), session, screen)
        case "again":
            answer(session.ask_again(), session, screen)
        case "settings" | "help":
            for said in render_help() if order == "help" else session.render_settings():
                logger.info(said)
        case "quit":
            return STOP
    return None


def answer(prompts: dict[str, str], session: Session, screen: Screen) -> None:
    """Have each checkpoint go on with its prompt, and show what it writes."""
    as_json = session.config.format is OutputFormat.json
    if session.config.top:
        found = session.rank(prompts)
        shown = {ckpt: render_answers([{"prompt": prompts[ckpt], "next": tokens}])[0] for ckpt, tokens in found.items()}
    elif screen.live and session.writes_alone() and not as_json:
        screen.open_text(*prompts.values())
        session.write(prompts, tell=screen.add)
        screen.end_text()
        return
    else:
        shown = {ckpt: "\n\n".join(texts) for ckpt, texts in session.write(prompts).items()}
    if as_json:
        return
    if len(shown) == 1:
        screen.show(*shown.values())
    else:
        screen.show_beside(shown)
