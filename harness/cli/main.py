"""The command line. Nothing heavy is imported before a command needs it: `--help` is there in a tenth of a second.

Each command stands in a file of its own, with `add`, which declares its words, and a function that carries it out.
Exit status: 0 all complete; 1 a cell failed or a sample did, or the disk is full; 2 the command, the config or the
form of the data is wrong, or another driver is at work on the run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness.cli import compare, doctor, fetch, listing, report, run, score, train
from harness.errors import StorageError, UserError
from harness.store.secrets import masked

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
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "settings") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # settings that stand after an option, which argparse does not take up again
        arguments.settings += rest
    try:
        return arguments.command(arguments)
    except UserError as error:
        _say(error)
        return 2
    except StorageError as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone: nothing to say and nobody to say it to
        return 0


def _say(error: Exception) -> None:
    print(f"harness: {masked(str(error))}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "harness",
        description="Compare multimodal models honestly: vqa, captioning, retrieval and classification.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (run.add, run.add_resume, report.add, compare.add, score.add, fetch.add, train.add, doctor.add,
                listing.add):  # fmt: skip
        add(commands)
    return parser
