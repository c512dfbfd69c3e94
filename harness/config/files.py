"""The YAML files of settings: those that are bundled, those of the user's own folders, which win, and what is wrong.

A file of the user's is read here before Hydra sees it, because a person wants file, line and column of a slip, and
because a text that comes from anywhere must cost neither memory nor time: nesting, size and aliases have bounds.
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import UserError

CONF = Path(str(files("harness.conf")))
MOST_BYTES = 2**20
"""The largest file of settings that is read."""
MOST_NODES = 100_000
"""The most keys and values that a file may have once its aliases are filled in."""
DEEPEST = 50
"""The most levels of nesting."""
_NAME = re.compile(r"[\w+:@%-]+")
"""The name of a member. Hydra takes a point, a space or a comma in it for something else."""


class FileFault(UserError):
    """One file of settings is wrong; `file` says which, so that it alone can be left out."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}{reason}")
        self.file = file


class ConfigFiles:
    """Where settings are read from: the bundled folder, then the user's own, of which the last wins."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"--config-dir {folder}: there is no such folder.")
        self.folders = tuple(folders)

    def members(self, group: str) -> dict[str, Path]:
        """The members of a group and their files."""
        folders = [CONF / group, *(folder / group for folder in self.folders)]
        return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}

    def said(self, group: str, name: str, key: str) -> str | None:
        """A value that stands as plain text in a member's file; None where there is no such member or value."""
        file = self.members(group).get(name)
        try:
            text = read(file) if file else ""
        except FileFault:
            return None
        found = re.search(rf"^{key}:[ \t]+(['\"]?)([^\s'\"#]+)\1[ \t]*(#.*)?$", text, re.MULTILINE)
        return found[2] if found else None

    def is_own(self, file: Path) -> bool:
        """Whether a file is the user's."""
        return any(file.is_relative_to(folder) for folder in self.folders)

    def check(self, group: str, name: str) -> None:
        """Raise FileFault for a member of the user's that cannot be read; bundled ones are sound."""
        file = self.members(group)[name]
        if not self.is_own(file):
            return
        if not _NAME.fullmatch(name):
            raise FileFault(file, f": '{name}' cannot be a name: names have letters, digits, - and _. Rename the file.")
        text = read(file)
        header = f"# @package {group}s.{name}" if group != "train" else ""  # where a recipe belongs, its group says
        # Hydra reads where a file belongs from its first line and says nothing sensible where that is missing.
        if header and text.lstrip("\ufeff \t\r\n").split("\n")[0].rstrip() != header:
            raise FileFault(file, f", line 1: the first line must be `{header}`.")
        _check_yaml(file, text)

    @contextmanager
    def merged(self) -> Iterator[Path]:
        """One folder with all files, for Hydra: it neither lets a user's file win nor reads every path."""
        if not self.folders:
            yield CONF
            return
        with TemporaryDirectory(prefix="harness-conf-") as folder:
            shutil.copytree(CONF, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            for own in self.folders:
                for file in sorted(own.glob("*/*.yaml")):
                    if _is_readable(file):
                        target = Path(folder) / file.parent.name / file.name
                        target.parent.mkdir(exist_ok=True)
                        target.write_text(file.read_text("utf-8-sig"), "utf-8")
            yield Path(folder)


def _is_readable(file: Path) -> bool:
    """Whether a file is one of settings by its outside; what is wrong with others is told when they are asked for."""
    try:
        read(file)
    except FileFault:
        return False
    return True


def read(file: Path) -> str:
    """The text of a file of settings; raises FileFault for what is not a file of UTF-8 text, or too large."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileFault(file, " is not a file: settings are read from files alone.")
        if status.st_size > MOST_BYTES:
            raise FileFault(file, f" has {status.st_size:,} bytes; a file of settings has at most {MOST_BYTES:,}.")
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FileFault(file, f", line {line}: this is not UTF-8 text. Save the file as UTF-8.") from error
    except OSError as error:
        raise FileFault(file, f" cannot be read: {error.strerror or error}.") from error
    if "\0" in text:
        raise FileFault(file, f", line {text[: text.index(chr(0))].count(chr(10)) + 1}: this is not text.")
    return text


def place(file: Path, key: str) -> str:
    """ ", line N, column M" of a key such as "columns.image" in a file; empty where the file does not say it."""
    import yaml

    try:
        node = yaml.compose(read(file), Loader=yaml.SafeLoader)
    except (UserError, yaml.YAMLError, RecursionError):
        return ""
    mark = None
    for part in key.split("."):
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((k, v) for k, v in node.value if k.value == part), None)
        if found is None:
            break
        mark, node = found[0].start_mark, found[1]
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _check_yaml(file: Path, text: str) -> None:
    """Raise FileFault, with line and column, for a text that is not one mapping of plain values."""
    import yaml

    try:
        _check_depth(file, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = (error.problem or error.context or "it is not YAML").replace("\\t", "a tab")
        raise FileFault(
            file, f"{_at(mark)}: {reason}. {_ADVICE.get(_kind(text, mark, reason), '')}".rstrip()
        ) from error
    except yaml.YAMLError as error:
        raise FileFault(file, f": this is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(node, yaml.MappingNode):
        raise FileFault(file, f"{_at(node.start_mark) if node else ''}: settings are written as `key: value`.")
    _check_node(file, node)


_ADVICE = {
    "tab": "Indent with spaces: YAML takes no tabs.",
    "quote": "A quote that is opened must be closed in the same value.",
    "colon": "A text that holds ': ' must be quoted.",
    "indent": "Keys of one mapping begin in the same column.",
    "alias": "A text that begins with * or & must be quoted.",
}


def _kind(text: str, mark, reason: str) -> str:  # noqa: ANN001 - yaml has no types
    line = text.split("\n")[mark.line] if mark and mark.line < text.count("\n") + 1 else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "tab" in reason:
        return "tab"
    if "quoted scalar" in reason or "end of stream" in reason:
        return "quote"
    if "mapping values" in reason:
        return "colon"
    if "alias" in reason or "anchor" in reason:
        return "alias"
    return "indent" if "block" in reason else ""


def _at(mark) -> str:  # noqa: ANN001 - yaml has no types
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _check_depth(file: Path, text: str) -> None:
    """Raise FileFault for nesting that is too deep, before anything is built of it, and for a second document."""
    import yaml

    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if depth > DEEPEST:
            raise FileFault(file, f"{_at(event.start_mark)}: this is nested more than {DEEPEST} levels deep.")
        if documents > 1:
            raise FileFault(file, f"{_at(event.start_mark)}: a file holds one document; remove this `---`.")


_PLAIN = ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")
"""What YAML may take a value for."""


def _check_node(file: Path, root) -> None:  # noqa: ANN001 - yaml has no types
    """Raise FileFault for keys that stand twice, for tags, and for aliases that never end or fill the memory."""
    import yaml

    count = 0
    path: set[int] = set()

    def visit(node) -> None:  # noqa: ANN001
        nonlocal count
        count += 1
        if count > MOST_NODES:
            raise FileFault(file, f": with its aliases filled in it has more than {MOST_NODES:,} keys and values.")
        if id(node) in path:
            raise FileFault(file, f"{_at(node.start_mark)}: an alias here stands for what it is part of.")
        if node.tag == "tag:yaml.org,2002:value":
            raise FileFault(file, f"{_at(node.start_mark)}: '=' alone must be quoted.")
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _PLAIN:
            raise FileFault(file, f"{_at(node.start_mark)}: settings have no tags, such as {node.tag.split(':')[-1]}.")
        if isinstance(node, yaml.ScalarNode):
            return
        path.add(id(node))
        children = node.value
        if isinstance(node, yaml.MappingNode):
            known: dict[str, int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise FileFault(file, f"{_at(key.start_mark)}: a key must be a text.")
                if (line := known.setdefault(key.value, key.start_mark.line + 1)) != key.start_mark.line + 1:
                    raise FileFault(file, f"{_at(key.start_mark)}: '{key.value}' stands in line {line} already.")
            children = [part for pair in node.value for part in pair]
        for child in children:
            visit(child)
        path.discard(id(node))

    visit(root)
    for key, value in root.value:
        if key.value == "defaults" and not isinstance(value, yaml.SequenceNode):
            raise FileFault(file, f"{_at(value.start_mark)}: defaults is a list: `defaults: [/spec/…@_here_, _self_]`.")
        if key.value == "labels":
            _check_labels(file, value)


def _check_labels(file: Path, node) -> None:  # noqa: ANN001 - yaml has no types
    """Raise FileFault for a label that YAML reads as something else than a text, such as yes or 1."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        if node.tag != "tag:yaml.org,2002:str" and node.style is None:
            kind = node.tag.rpartition(":")[2]
            said = f'YAML reads {node.value or "nothing"} as {_KINDS.get(kind, kind)}; quote it: "{node.value}".'
            raise FileFault(file, f"{_at(node.start_mark)}: labels: {said}")
        return
    parts = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    for part in parts:
        _check_labels(file, part)


_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
