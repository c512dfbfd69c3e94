"""The command line. Nothing heavy is imported before a command needs it: `--help` is there in a tenth of a second.

Each command stands in a file of its own, with `add`, which declares its words, and a function that carries it out.
Exit status: 0 all complete; 1 a cell failed or a sample did, or the disk is full; 2 the command, the config or the
form of the data is wrong, or another driver is at work on the run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from harness.cli import compare, doctor, fetch, listing, report, run, score, terminal, train
from harness.errors import StorageError, UserError, nearest
from harness.store.files import FULL

EPILOG = """\
examples:
  harness run                                       every model here answers the pocket questions
  harness run task=vqa model=all limit=100
  harness run task=[retrieval,captioning] dataset=coco-363 data_dir=~/data
  harness run dataset=pocket-audio ablate=[none,audio,shuffled-audio]
  harness run model=[fusion-weighted,pocket-clip] task=all latency=off
  harness resume                                    go on with the last interrupted run
  harness list models
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        arguments = _read(list(sys.argv[1:] if argv is None else argv))
        return arguments.command(arguments)
    except UserError as error:
        terminal.message(f"harness: {error}")
        return 2
    except StorageError as error:
        terminal.message(f"harness: {error}")
        return 1
    except KeyboardInterrupt:
        terminal.message("harness: interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone: nothing to say and nobody to say it to
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        terminal.message(f"harness: {place}{error.strerror or error}.")
        if error.errno in FULL and not error.filename:
            _give_up_output()
        return 1 if error.errno in FULL else 2


def _give_up_output() -> None:
    """Send what is still to be printed nowhere: Python tries once more as it ends, and would complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """A mistake in the command line is told like every other one."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}. `{self.prog} --help` says what it takes.")


def _read(words: list[str]) -> argparse.Namespace:
    """The command line as a namespace. After the command, flags and settings stand in any order.

    Raises UserError for a mistake in it, and SystemExit where it asks for help.
    """
    if any("\0" in word for word in words):
        raise UserError("A command line holds no null character.")
    parser, commands = _parser()
    at = next((i for i, word in enumerate(words) if word in commands), None)
    if at is None:
        if words and not words[0].startswith("-"):
            hint = nearest(words[0], commands)
            hint = f"Did you mean `harness run {words[0]} …`?" if "=" in words[0] else hint
            raise UserError(f"There is no command '{words[0]}'. {hint}")
        return parser.parse_args(words)  # it asks for help, or lacks a command
    command = commands[words.pop(at)]
    arguments, unknown = command.parse_known_intermixed_args(words)
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        hint = nearest(name, (flag.lstrip("-") for flag in command._option_string_actions if len(flag) > 2))
        hint = re.sub("'(.*)'", r"'--\1'", hint)
        if "Did you mean" not in hint:
            hint = f"Settings are written without dashes: {name}=VALUE." if hasattr(arguments, "settings") else ""
        raise UserError(f"There is no flag '{unknown[0]}'. {hint or f'`{command.prog} --help` names those there are.'}")
    return arguments


def _parser() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the whole line, and those of the commands by name."""
    parser = _Parser(
        "harness",
        description="Compare multimodal models honestly: vqa, captioning, retrieval and classification.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (run.add, run.add_resume, report.add, compare.add, score.add, fetch.add, train.add, doctor.add,
                listing.add):  # fmt: skip
        add(commands)
    return parser, commands.choices
