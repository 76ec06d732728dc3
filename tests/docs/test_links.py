"""What the documentation points to is there, and nothing in it is still to be written."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(
    r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE
)
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.*?) *#*$", re.MULTILINE)
PLACEHOLDER = re.compile(r"\b(todo|tbd|xxx|fixme|lorem)\b", re.IGNORECASE)


def prose(text: str) -> str:
    """Without code, in which brackets and hashes mean something else."""
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("(", " "), FENCED.sub("", text))


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings: lower case, no punctuation, hyphens, numbers for doubles."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        double = sum(
            re.fullmatch(rf"{re.escape(name)}(-\d+)?", other) is not None for other in found
        )
        found.add(f"{name}-{double}" if double else name)
    return found


def broken_links(page: Path) -> list[str]:
    broken = []
    for pair in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        target = pair[0] or pair[1]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        if not path.exists():
            broken.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            broken.append(f"{target}: no such heading")
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_still_to_be_written(page: Path) -> None:
    assert PLACEHOLDER.findall(page.read_text(encoding="utf-8")) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One: two\n\n```sh\n# no heading\n```\n# One: two\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md#one-two) [b](other.md#one-two-1) [c](#here) [d](https://x.y/z)\n"
        "[e](missing.md) ![f](missing.svg) [g](other.md#no-heading) [h](#there) `[i](code.md)`\n"
        "```\n[j](fenced.md)\n```\n[k]: gone.md\n"
    )
    assert broken_links(page) == [
        "missing.md: no such file",
        "missing.svg: no such file",
        "other.md#no-heading: no such heading",
        "#there: no such heading",
        "gone.md: no such file",
    ]


@pytest.mark.parametrize("word", ["TODO", "tbd", "XXX:", "(FIXME)", "Lorem ipsum"])
def test_placeholders_are_found(word: str) -> None:
    assert PLACEHOLDER.search(f"and {word} more")
