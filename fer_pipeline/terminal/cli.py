"""Runs an entry point: parses flags, prints help, reports errors and sets the exit status."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator

from absl import app, flags, logging

from fer_pipeline import gpus
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import interruption

#: Exit status if the reader of the output has closed it: the shell's for SIGPIPE.
_BROKEN_PIPE = 128 + 13

_UNWRITABLE = "the output cannot be written ({}); make room there, or lead it elsewhere"

#: Flags that ask for help.
_HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull", "-?"}


def run_app(
    main: Callable[[list[str]], int | None], description: str, *, narrates: bool = False
) -> None:
    """Parses the command line, runs ``main`` and exits.

    Exit status: 0 on success and for ``--help``, 1 with one line on stderr for a ``UserError``, a
    flag that does not parse or output that a full disk does not take, 130 after Ctrl-C, 143 after
    SIGTERM, 141 if the reader of the output has closed it. Any other exception is printed with its
    traceback.

    Args:
      main: called with the program's name and the positional arguments.
      description: what ``--help`` shows above the flags.
      narrates: whether it prints inside ``narration``, so that ``--verbosity`` has an effect.
    """

    def parse(argv: list[str]) -> list[str]:
        if _HELP.intersection(argv[1:]):
            print(_help(description, narrates=narrates))
            sys.stdout.flush()
            sys.exit(0)
        # Flags may also follow the positional arguments.
        flags.FLAGS.set_gnu_getopt()
        try:
            arguments = flags.FLAGS(_at_home(argv))
        except flags.Error as error:
            _fail(f"{_plain(str(error))} (--help lists the flags)")
        for name, value in flags.FLAGS.flag_values_dict().items():
            # absl compares it with no bound.
            if isinstance(value, float) and math.isnan(value):
                _fail(f"flag --{name}={value}: not a number (--help lists the flags)")
        return arguments

    def guarded(argv: list[str]) -> int:
        interruption.end_at_sigterm()
        interruption.raise_at_ctrl_c()
        gpus.allow_growth()
        try:
            status = main(argv) or 0
            sys.stdout.flush()
            return status
        except UserError as error:
            message = str(error)
        except BrokenPipeError:
            return _BROKEN_PIPE
        except OSError as error:
            if not _is_full(error):
                traceback.print_exc()
                return 1
            message = _UNWRITABLE.format(error.strerror)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 130
        except interruption.InterruptedByUser as stop:
            print(f"\n{stop}", file=sys.stderr)
            return stop.status
        except Exception:
            traceback.print_exc()
            return 1
        # Outside the handlers, where the frames of the exception are freed: a tf.data iterator in
        # one of them could hang Python's shutdown.
        _fail(message)

    with exit_on_broken_pipe():
        app.run(guarded, flags_parser=parse)


def _at_home(argv: list[str]) -> list[str]:
    """Puts the home folder into ``--flag=~/path``, which Bash leaves to the program.

    A tilde anywhere else, and what follows ``--``, stays.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    return [_expanded(word) for word in argv[:end]] + argv[end:]


def _expanded(word: str) -> str:
    flag, equals, value = word.partition("=")
    if not flag.startswith("-") or not (value == "~" or value.startswith("~/")):
        return word
    return flag + equals + os.path.expanduser(value)


def _plain(message: str) -> str:
    """What absl says of a flag, without the words of Python's own functions."""
    line = message.splitlines()[0]
    line = re.sub(r"invalid literal for int\(\).*", "not a whole number", line)
    line = re.sub(r"could not convert string to float.*", "not a number", line)
    meant = re.search(r"Did you mean: (.*?) \?", line)
    if meant:
        names = meant[1].replace(", ", " or --")
        line = line.replace(meant[0], f"Did you mean --{names}?")
    return line


@contextlib.contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """Ends the process with status 141 and no message if the reader of its output closes it, and
    with status 1 and a line if the disk that it goes to is full.

    Standard streams that the caller has closed are opened first, and what the encoding of the
    output lacks is printed as ``\\udcff``.
    """
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks, or whose bytes are not UTF-8, is still a name.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(_BROKEN_PIPE)
    except OSError as error:
        if not _is_full(error):
            raise
        _fail(_UNWRITABLE.format(error.strerror))
    finally:
        _silence_broken_stdout()


def _is_full(error: OSError) -> bool:
    """Whether a disk is full: the output's, since files that are written say their names."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None


def _open_closed_streams() -> None:
    """Opens /dev/null in place of a standard stream that the caller has closed (``2>&-``).

    Otherwise the next file that is opened would get its descriptor.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The system returns the lowest free descriptor, and those below are in use.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            # Stays open until the process ends, as the streams that Python opens.
            mode = "w" if descriptor else "r"
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def _silence_broken_stdout() -> None:
    """Lets Python close stdout without a message if it can no longer be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def narration() -> Iterator[None]:
    """Discards what is printed inside the block if ``--verbosity`` asks for errors only."""
    if logging.get_verbosity() > logging.ERROR:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def refuse_arguments(argv: list[str]) -> None:
    """Raises UserError if there are arguments other than flags, such as a flag without dashes."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; flags are typed as --name=value")


def _help(description: str, *, narrates: bool) -> str:
    """Formats the description and the flags, without those of absl."""
    lines = [description.strip(), "", "Flags:"]
    for module, module_flags in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith("absl."):
            continue
        for flag in module_flags:
            default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str})"
            lines.append(f"  --{'[no]' if flag.boolean else ''}{flag.name}")
            lines += _indented(f"{flag.help}{default}")
    if narrates:
        lines += ["  --verbosity", *_indented("-2 prints errors alone. (default: -1)")]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
