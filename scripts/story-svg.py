#!/usr/bin/env python3
"""Draws the transcript of a story as a picture of a terminal.

    scripts/story-svg.py TRANSCRIPT >FILE.svg

The transcript is what scripts/type-story.sh has written. Nothing is changed or added. Long output is shortened, and the picture says by
how many lines. A line that is too wide is wrapped; JSON ends with an ellipsis instead.
"""

import datetime
import re
import sys
import textwrap
from xml.sax.saxutils import escape

COLUMNS = 112
CHARACTER, LINE, MARGIN = 7.83, 18, 16
COLOURS = {"#": "#8b949e", "$": "#79c0ff", ">": "#e6edf3", "?": "#ffa657", "…": "#6e7681", "!": "#7ee787", "x": "#ff7b72"}


def entries(path):
    """Commands with their output: (kind, text) lines in groups."""
    group = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            kind, text = line.rstrip("\n").split("\t", 1)
            if kind in "#$" and group and group[-1][0] not in "#$":
                yield group
                group = []
            if kind == "#":
                # A comment starts a new group.
                if group:
                    yield group
                    group = []
            elif kind == "$" and group and group[-1][0] == "$" and not group[-1][1].endswith(("|", "\\")):
                yield group
                group = []
            group.append((kind, text))
    if group:
        yield group


def shortened(group):
    """The group without what would fill the picture: most lines of logs, and the middle of long output."""
    head = [line for line in group if line[0] in "#$"]
    output = [line for line in group if line[0] not in "#$"]
    is_process = any(kind == "$" and text.endswith("&") for kind, text in head)
    if is_process and any(re.search(r"ready:|listening:", text) for _, text in output):
        kept = [line for line in output if re.search(r"ready:|listening:", line[1])]
        left_out = len(output) - len(kept)
        return head + kept + ([("…", f"… {left_out} lines of its log")] if left_out else [])
    if len(output) > 14:
        return head + output[:1] + [("…", f"… {len(output) - 5} more lines")] + output[-4:]
    return head + output


def colour(kind, text):
    """Green for what was enforced, red for what was refused."""
    if kind == ">" and re.search(r"enforce it$|requests answered|\d+ ms +\d+$|^ready$", text) and not text.startswith("0 of"):
        return COLOURS["!"]
    if kind == ">" and re.search(r"refused|revoked, errno|^curl:", text):
        return COLOURS["x"]
    return COLOURS[kind]


def rows(text):
    """The line in as many rows as it needs."""
    if len(text) <= COLUMNS:
        return [text]
    indent = " " * (len(text) - len(text.lstrip())) + "    "
    return textwrap.wrap(text, COLUMNS, subsequent_indent=indent, break_on_hyphens=False)


def main():
    lines = []
    for group in entries(sys.argv[1]):
        if group[0][0] == "#" and lines:
            lines.append((">", ""))
        for kind, text in shortened(group):
            prefix = "$ " if kind == "$" else ""
            text = prefix + text
            if len(text) > COLUMNS and text.startswith("{"):
                text = text[: COLUMNS - 1] + "…"
            lines += [(kind, row) for row in rows(text)]
    width = round(COLUMNS * CHARACTER + 2 * MARGIN)
    height = len(lines) * LINE + 2 * MARGIN + 28
    today = datetime.date.today().isoformat()
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>The story of the README, recorded by make story-picture on {today}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        '<circle cx="20" cy="18" r="6" fill="#ff5f56"/><circle cx="40" cy="18" r="6" fill="#ffbd2e"/>'
        '<circle cx="60" cy="18" r="6" fill="#27c93f"/>',
        '<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="13" xml:space="preserve">',
    ]
    for index, (kind, text) in enumerate(lines):
        if text:
            baseline = MARGIN + 28 + index * LINE + 4
            weight = ' font-weight="bold"' if kind == "#" else ""
            out.append(f'<text x="{MARGIN}" y="{baseline}" fill="{colour(kind, text)}"{weight}>{escape(text)}</text>')
    out += ["</g>", "</svg>"]
    print("\n".join(out))


main()
