"""A site as files: path to content, before any of it is on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard.site import cards, layout, pages
from stage_bench.leaderboard.site.boards import Board
from stage_bench.leaderboard.site.cards import Describe


def files(boards: Sequence[Board], describe: Describe, program: Mapping[str, str]) -> dict[str, bytes]:
    """All files of a site but its manifest.

    describe: what is known of a model. program: `version` and `commit` of what makes the site. The same boards in any
    order give the same files. Raises StageBenchError: two boards of one name.
    """
    ordered = sorted(boards, key=lambda board: board.folder)
    _check_names(ordered)
    found = {layout.NO_JEKYLL: b""}
    for board in ordered:
        found |= {f"{board.folder}/{name}": content for name, content in board.files.items()}
    made = cards.make(ordered, describe)
    found |= {card.path: pages.card(card).encode() for card in made}
    found[layout.INDEX] = pages.index(ordered, made, program).encode()
    return found


def _check_names(boards: Sequence[Board]) -> None:
    taken: dict[str, Board] = {}
    for board in boards:
        # Some file systems take Cora and cora for one.
        other = taken.setdefault(board.folder.casefold(), board)
        if other is not board:
            first, second = sorted((str(other.source), str(board.source)))
            raise StageBenchError(
                f"{first} and {second} are both boards of {board.name}; give one of the suites another `name:` and "
                "report it again"
            )
