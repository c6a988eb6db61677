"""The one door through which a chat model's answers come in: read where they lie, or asked for and kept."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from stage_bench import files, fingerprint
from stage_bench.answers import choice as choices
from stage_bench.answers import prompts, store, upstream
from stage_bench.answers.choice import AnswersChoice
from stage_bench.answers.parsing import Parsed, Parser
from stage_bench.answers.store import Answer
from stage_bench.errors import JobError
from stage_bench.features.spec import Setting
from stage_bench.llms.server import shortened

SCHEMA_VERSION = 1
_NONSENSE = 25  # answers without a class before a model is asked no more


@dataclass(frozen=True, eq=False)
class Answers:
    """One answer a node.

    ranked: int64 [num_nodes, k], the classes each names, best first, then -1. explanations: the whole of each answer,
    as TAPE's E has it, "" where there is none. spent: `answer_seconds` (wall time of asking), `answer_tokens` and
    `answer_dollars` as far as they are known. counts: how many nodes `answered`, `named_no_class`, `named_unknown`
    (something that is no class, perhaps beside one that is), were `refused`, `empty` or `cut` at max_tokens.
    """

    ranked: np.ndarray
    explanations: list[str]
    spent: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        words = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items() if count)
        return f"answers: {words} of {len(self.ranked):,} nodes"


def load(setting: Setting) -> Answers:
    """The answers that `setting.answers` stands for; those that are not there yet are asked for and kept.

    Raises:
        StageBenchError: the dataset lacks them.
        JobError: they cannot be had, or hardly any of them names a class; what was answered is kept.
    """
    choice, graph = setting.answers, setting.graph
    assert choice is not None
    identity = choices.identity(graph, choice)
    question = prompts.question(graph.name, graph.label_names, choice.prompt, choice.top)
    parser = Parser(graph.label_names, question.other_names)
    place = setting.results / "answers" / fingerprint.of_json(identity["asked"])
    if choice.kind == "upstream":
        folder = upstream.folder(graph, choice)
        known = list(upstream.read(folder, graph.num_nodes))
        if upstream.of_answers(known) != identity["asked"]["content"]:
            raise JobError(f"{folder}: its files changed while they were read; run again")
    else:
        assert graph.texts is not None
        known = _Filling(setting, choice, place, [question.about(text) for text in graph.texts], parser).all()
    answers = _understood(known, [parser(answer.content) for answer in known], choice)
    facts = {"dataset": graph.name, "answers_of": choice.label, "nodes": graph.num_nodes, "content": identity}
    files.write_json(
        place / "manifest.json", {"schema_version": SCHEMA_VERSION, **facts, **answers.counts, **answers.spent}
    )
    setting.say(f"{graph.name}: {answers.summary}")
    return answers


def _understood(known: Sequence[Answer], parsed: Sequence[Parsed], choice: AnswersChoice) -> Answers:
    ranked = np.full((len(known), max(1, *(len(each.ranked) for each in parsed))), -1, dtype=np.int64)
    for node, each in enumerate(parsed):
        ranked[node, : len(each.ranked)] = each.ranked
    silent = [node for node, each in enumerate(parsed) if not each.ranked]
    counts = {
        "answered": sum(bool(answer.content) for answer in known),
        "named_no_class": sum(bool(known[node].content) for node in silent),
        "named_unknown": sum(bool(each.unknown) for each in parsed),
        "refused": sum(bool(answer.refused) for answer in known),
        "empty": sum(not answer.content and not answer.refused for answer in known),
        "cut": sum(answer.cut for answer in known),
    }
    if len(silent) * 2 > len(known):
        node = next((node for node in silent if known[node].content), silent[0])
        raise JobError(
            f"answers of '{choice.label}': {len(silent):,} of {len(known):,} name no class of the dataset "
            f"({counts['refused']:,} refused, {counts['empty']:,} empty); {_example(node, known[node])}"
        )
    return Answers(ranked, [answer.content for answer in known], store.spent(known), counts)


def _example(node: int, answer: Answer) -> str:
    if answer.content:
        return f"for node {node} it said: '{shortened(answer.content, 160)}'"
    return f"node {node}: {shortened(answer.refused, 160) or 'an empty answer'}"


class _Filling:
    """Asks for what is missing in a folder of answers. Identical texts are asked about once, and share the answer."""

    def __init__(
        self, setting: Setting, choice: AnswersChoice, folder: Path, prompts: Sequence[str], parser: Parser
    ) -> None:
        self.setting, self.choice, self.folder, self.parser = setting, choice, folder, parser
        nodes: dict[str, list[int]] = {}
        for node, prompt in enumerate(prompts):
            nodes.setdefault(prompt, []).append(node)
        self.prompts, self.nodes = list(nodes), list(nodes.values())
        self.total = len(prompts)
        self.done = self.nonsense = 0
        self.sense = False  # has an answer named a class?
        self.what = "answers"
        self.read_at = 0.0

    def all(self) -> list[Answer]:
        """One answer a node; several processes that want them wait for the one that asks.

        Raises:
            JobError: they cannot be had; what was answered is kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.setting.say("answers: waiting for another process that asks for the same")
            lock.acquire()
        try:
            known, damaged = self._known(range(self.total))
            if len(known) < self.total:
                if damaged:
                    self.what = f"answers ({len(damaged)} damaged files are asked for again)"
                    more = f" and {len(damaged) - 3:,} more" if len(damaged) > 3 else ""
                    named = ", ".join(f"{node}.json" for node in damaged[:3])
                    self.setting.say(f"{self.folder}: {named}{more}: damaged, asked for again")
                self._ask(known)
                self._share()
                known, _ = self._known(range(self.total))
        finally:
            lock.release()
        if len(known) < self.total:
            raise JobError(f"{self.folder}: answers that were just kept cannot be read back; is the disk sound?")
        return [known[node] for node in range(self.total)]

    def _known(self, nodes: Sequence[int]) -> tuple[dict[int, Answer], list[int]]:
        """By node, those answers that are there; the nodes whose files are damaged."""
        known: dict[int, Answer] = {}
        damaged: list[int] = []
        for node in nodes:
            try:
                answer = store.read(self.folder, node)
            except store.Damaged:
                damaged.append(node)
                continue
            if answer is not None:
                known[node] = answer
        return known, damaged

    def _ask(self, known: dict[int, Answer]) -> None:
        self.done = len(known)
        for answer in known.values():
            self._judge(answer)
        todo = [number for number, nodes in enumerate(self.nodes) if not any(node in known for node in nodes)]
        if not todo:
            return
        self.setting.step(self.done, self.total, self.what)
        if self.choice.kind == "local":
            from stage_bench.answers.local import LocalChat

            model = LocalChat(self.choice, self.setting.device)
            self.read_at = time.perf_counter()
            for number, response, ours in model.answers(self.prompts, todo):
                self._keep(number, response, ours)
            return
        from stage_bench.answers.asking import Asking, Budget
        from stage_bench.answers.endpoint import ChatEndpoint

        server = ChatEndpoint(self.choice)
        numbers = {node: number for number, nodes in enumerate(self.nodes) for node in nodes}
        sizes = [len(self.prompts[numbers[node]].encode("utf-8", "replace")) for node in known]
        budget = Budget(self.choice, list(known.values()), sizes)
        answered = any(not answer.refused for answer in known.values())
        self.read_at = time.perf_counter()
        Asking(server, self.prompts, budget, self._keep).all_of(todo, answered)

    def _keep(self, number: int, response: dict[str, Any], ours: dict[str, Any]) -> None:
        now = time.perf_counter()
        passed, self.read_at = now - self.read_at, now  # every second of asking belongs to one answer
        nodes = self.nodes[number]
        store.write(self.folder, nodes[0], response, {**ours, "wall": round(passed, 6)})
        self.done += len(nodes)
        self.setting.step(self.done, self.total, self.what)
        answer = store.read(self.folder, nodes[0])
        if answer is not None:
            self._judge(answer)
            if not self.sense and self.nonsense >= _NONSENSE:
                raise JobError(
                    f"answers of '{self.choice.label}': the first {self.nonsense} name no class of the dataset; "
                    f"{_example(nodes[0], answer)}. They are kept in {self.folder}; remove it to ask anew"
                )

    def _judge(self, answer: Answer) -> None:
        if not self.sense and answer.content:
            self.sense = bool(self.parser(answer.content).ranked)
            self.nonsense += not self.sense

    def _share(self) -> None:
        """Give the nodes of one text the same answer; it is paid for once."""
        for nodes in self.nodes:
            if len(nodes) == 1:
                continue
            known, _ = self._known(nodes)
            for node in nodes:
                if node not in known and known:
                    source = min(known)
                    response = json.loads(store.path(self.folder, source).read_bytes())
                    ours = response.pop(store.OURS, {})
                    response.pop("usage", None)
                    shared = {key: ours[key] for key in ("refused",) if key in ours}
                    store.write(self.folder, node, response, {**shared, "same_text_as_node": source})
