"""The options of the command line are those of Hydra, each with the values that Hydra takes."""

from hydra._internal.utils import get_args_parser

from lmtune.cli import options


def describe(parser):
    """Names of each option, without keys and with whether a value follows."""
    actions = [action for action in parser._actions if action.option_strings]
    return {tuple(sorted(action.option_strings)): action.nargs == 0 for action in actions}


def test_every_option_of_hydra_is_known_and_no_other():
    ours, theirs = describe(options._build_parser()), describe(get_args_parser())
    assert ours == theirs


def test_options_that_show_something_take_what_hydra_shows():
    choices = {action.dest: action.choices for action in get_args_parser()._actions if action.choices}
    assert {name: tuple(values) for name, values in choices.items()} == {"cfg": options.CFG, "info": options.INFO}


def test_what_is_refused_is_an_option_of_hydra():
    assert {action.dest for action in get_args_parser()._actions} >= options.REFUSED.keys()
