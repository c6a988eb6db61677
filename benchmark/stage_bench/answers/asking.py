"""Asks for the answers that are not there yet: several at once, within a budget, each kept as soon as it is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, NamedTuple

from stage_bench.answers import store
from stage_bench.answers.choice import AnswersChoice
from stage_bench.answers.endpoint import ChatEndpoint, Refusal
from stage_bench.answers.store import Answer
from stage_bench.errors import JobError

_AT_FIRST = 3  # refusals without a single answer: then it is the request that is wrong, not a text
_IN_A_ROW = 25

Keep = Callable[[int, dict[str, Any], dict[str, Any]], None]
"""Told (prompt's number, response, ours) of each answer."""


_Response = tuple[dict[str, Any], float]


class _Sent(NamedTuple):
    """A request that is under way: of which prompt, the how manieth it is, and what it may cost at most."""

    number: int
    order: int
    cost: tuple[float, float]


class Budget:
    """Tokens and dollars that all requests together may cost, those of earlier sessions included."""

    def __init__(self, choice: AnswersChoice, known: Sequence[Answer], sizes: Sequence[int]) -> None:
        """sizes: bytes of the prompts behind `known`."""
        self.choice = choice
        self.limited = choice.most_tokens is not None or choice.most_dollars is not None
        self.tokens = self.dollars = 0.0
        self._per_byte = 0.0  # tokens of a prompt, the most seen so far
        for answer, size in zip(known, sizes, strict=True):
            if answer.usage is not None:
                self.count(answer.usage, size)

    def count(self, usage: dict[str, int], size: int) -> float | None:
        """Add what a response cost; its dollars, where prices are known."""
        self.tokens += sum(usage.values())
        self._per_byte = max(self._per_byte, usage["prompt_tokens"] / max(1, size))
        dollars = self._price(usage["prompt_tokens"], usage["completion_tokens"])
        self.dollars += dollars or 0
        return dollars

    def estimate(self, size: int) -> tuple[float, float]:
        """Tokens and dollars that a request may cost at most: an answer may be as long as it is allowed to."""
        # Half a token a byte before anything is known: prose has a quarter.
        prompt = (self._per_byte or 0.5) * size + 16
        return prompt + self.choice.max_tokens, self._price(prompt, self.choice.max_tokens) or 0.0

    def allows(self, under_way: Sequence[tuple[float, float]], next_: tuple[float, float]) -> bool:
        tokens, dollars = (sum(each) for each in zip(next_, *under_way, strict=True))
        too_many = self.choice.most_tokens is not None and self.tokens + tokens > self.choice.most_tokens
        too_dear = self.choice.most_dollars is not None and self.dollars + dollars > self.choice.most_dollars
        return not too_many and not too_dear

    def _price(self, prompt: float, completion: float) -> float | None:
        if self.choice.price_prompt is None or self.choice.price_completion is None:
            return None
        return (prompt * self.choice.price_prompt + completion * self.choice.price_completion) / 1e6


class Asking:
    """One session with a server."""

    def __init__(self, server: ChatEndpoint, prompts: Sequence[str], budget: Budget, keep: Keep) -> None:
        self.server, self.prompts, self.budget, self.keep = server, prompts, budget, keep
        self.answered = False  # has it ever answered a prompt of these?
        self.sent = 0
        self.refused: list[tuple[int, int, str]] = []  # how many had been sent by then, the prompt's number, why

    def all_of(self, todo: Sequence[int], answered_before: bool) -> None:
        """Ask each of the prompts numbered in `todo`.

        A refusal is one of a text only when another that was sent later is answered, or when it is among the last: a
        server that refuses one after another does not understand the request, or has begun not to.

        Raises:
            JobError: the budget is used up, or the server gave out; what was answered is kept.
        """
        self.answered = answered_before
        waiting = deque(todo)
        under_way: dict[Future[_Response], _Sent] = {}
        width = self.server.threads or 1
        done = 0
        with ThreadPoolExecutor(width) as pool:
            try:
                while waiting or under_way:
                    out_of_budget = False
                    # One after another until the first answer: what is wrong with all of them costs one.
                    while waiting and len(under_way) < (width if self.answered else 1):
                        size = len(self.prompts[waiting[0]].encode("utf-8", "replace"))
                        cost = self.budget.estimate(size)
                        if not self.budget.allows([sent.cost for sent in under_way.values()], cost):
                            out_of_budget = True
                            break
                        number = waiting.popleft()
                        future = pool.submit(self.server.answer, self.prompts[number])
                        under_way[future] = _Sent(number, self.sent, cost)
                        self.sent += 1
                    if out_of_budget and not under_way:
                        raise self._over(done, len(todo))
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        self._take(future, under_way.pop(future))
                        done += 1
                if self.refused and not self.answered:
                    raise self.server.failed(self.refused[0][-1])
                self._settle(self.sent)
            finally:
                # What is on its way is paid for: it is kept, whatever ends the session.
                self.server.close()
                for future in wait(under_way).done:
                    if future.exception() is None:
                        with suppress(JobError):
                            self._take(future, under_way[future])

    def _take(self, future: Future[_Response], sent: _Sent) -> None:
        number = sent.number
        try:
            response, seconds = future.result()
        except Refusal as refusal:
            self.refused.append((self.sent, number, str(refusal)))
            if len(self.refused) >= (_IN_A_ROW if self.answered else _AT_FIRST):
                raise self.server.failed(f"{refusal} ({len(self.refused)} prompts in a row)") from None
            return
        self.answered = True
        self._settle(sent.order)
        ours: dict[str, Any] = {"seconds": round(seconds, 6)}
        answer = store.understood(response)
        if answer.usage is not None:
            dollars = self.budget.count(answer.usage, len(self.prompts[number].encode("utf-8", "replace")))
            if dollars is not None:
                ours["dollars"] = dollars
        self.keep(number, response, ours)
        if answer.usage is None and self.budget.limited:
            raise self.server.failed(
                "the server does not say how many tokens it used, so that most_tokens and most_dollars cannot be kept; "
                "leave them out"
            )

    def _settle(self, order: int) -> None:
        """What was refused before a request was sent that has an answer is refused for its text's sake."""
        for _, number, why in (refused for refused in self.refused if refused[0] <= order):
            self.keep(number, {}, {"refused": why})
        self.refused = [refused for refused in self.refused if refused[0] > order]

    def _over(self, done: int, total: int) -> JobError:
        choice = self.budget.choice
        limits = [f"most_tokens: {choice.most_tokens}"] if choice.most_tokens is not None else []
        limits += [f"most_dollars: {choice.most_dollars:g}"] if choice.most_dollars is not None else []
        spent = f"{self.budget.tokens:,.0f} tokens"
        spent += f" and {self.budget.dollars:.4g} dollars" if choice.most_dollars is not None else ""
        return JobError(
            f"answers of '{choice.label}': one more request could exceed {' or '.join(limits)} ({spent} spent); "
            f"{total - done} prompts are still to be asked, what was answered is kept: raise the limit and run again"
        )
