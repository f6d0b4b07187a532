#!/usr/bin/env python3
"""Checks that every relative link in the documents leads to a file, and every anchor to a heading.

    scripts/check-links.py

Links to the web are not followed.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")


def blanked(pattern, text):
    """The text without what matches, every line in its place."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def anchors(path):
    """The anchors of a document's headings, as forges make them."""
    found = set()
    for title in re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        while anchor in found:
            anchor += "-1"
        found.add(anchor)
    return found


def main():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    documents = [ROOT / name for name in listed if (ROOT / name).is_file()] or sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md"))
    broken, count = [], 0
    for document in documents:
        text = blanked(CODE, blanked(FENCE, document.read_text(encoding="utf-8")))
        for match in LINK.finditer(text):
            target = match.group(1)
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            line = text.count("\n", 0, match.start()) + 1
            name, _, anchor = target.partition("#")
            path = (document.parent / name).resolve() if name else document
            where = f"{document.relative_to(ROOT)}:{line}: {target}"
            if not path.exists():
                broken.append(f"{where}: there is no such file")
            elif anchor and path.suffix == ".md" and anchor not in anchors(path):
                broken.append(f"{where}: there is no such heading")
    for line in broken:
        print(line, file=sys.stderr)
    if not broken:
        print(f"{count} links between {len(documents)} documents lead somewhere")
    return 1 if broken or not documents else 0


sys.exit(main())
