"""From answers to classes: forms that models use, names that do not exist, real predictions read back."""

import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stage_bench.answers import prompts
from stage_bench.answers.parsing import Parser
from stage_bench.datasets import folder
from stage_bench.datasets.upstream.categories import ARXIV, PRODUCTS
from stage_bench.errors import StageBenchError

CORA = [
    *("Case_Based", "Genetic_Algorithms", "Neural_Networks", "Probabilistic_Methods"),
    *("Reinforcement_Learning", "Rule_Learning", "Theory"),
]
CASE, GA, NN, PROB, RL, RULE, THEORY = range(7)
PUBMED = ["Diabetes Mellitus, Experimental", "Diabetes Mellitus Type 1", "Diabetes Mellitus Type 2"]
cora = Parser(CORA)
pubmed = Parser(PUBMED, prompts.other_names(PUBMED))


@pytest.mark.parametrize(
    ("answer", "ranked", "unknown"),
    [
        # A list on one line, as TAPE asks for.
        ("Neural Networks", [NN], []),
        ("neural_networks.", [NN], []),
        ("NEURAL-NETWORKS, theory\n\nThe paper uses Genetic Algorithms.", [NN, THEORY], []),
        ("Neural Networks, Theory. The text says so of Rule Learning.", [NN, THEORY], []),
        ("Answer: Neural Networks and Theory", [NN, THEORY], []),
        ("**Theory**, **Rule Learning**", [THEORY, RULE], []),
        ("Yes, Theory.", [THEORY], []),
        ("Theory (learning theory), Neural Networks (recurrent)", [THEORY, NN], []),
        ("Theory, Neural Networks, Theory", [THEORY, NN], []),
        ("Neural Networks\nTheory\n\nBecause the paper says so.", [NN, THEORY], []),
        # Items.
        ("1. Neural Networks: it beats rule learning\n2. Theory - it has bounds", [NN, THEORY], []),
        ("1) Theory\n2) Case Based", [THEORY, CASE], []),
        ("- Theory\n- Rule Learning: rules", [THEORY, RULE], []),
        ("Based on the abstract:\n\n1. **Neural Networks** (70%): ...\n2. **Rule Learning**", [NN, RULE], []),
        ("Neural Networks: This paper.\n\nTheory: That paper.", [NN, THEORY], []),
        ("1. Theory, Rule Learning", [THEORY, RULE], []),
        ("Theory: No\nRule Learning: Yes, it learns rules.", [RULE], []),
        # The general prompt's form.
        ("Class: Theory\nClass: Neural Networks\nExplanation: Case based reasoning is not in it.", [THEORY, NN], []),
        ("**Class:** Theory\n**Class:** Rule_Learning\n**Explanation:** both", [THEORY, RULE], []),
        ("Class 1: Theory\nClass 2: Rule Learning", [THEORY, RULE], []),
        ("Sure!\nClass: Theory (with bounds)\nExplanation: ...", [THEORY], []),
        ("<think>Neural Networks? No.</think>\nClass: Theory", [THEORY], []),
        ("<think>Neural Networks, and then no end", [], []),
        # A sentence.
        ("The paper belongs to the category of Theory and Rule Learning. Not Neural Networks.", [THEORY, RULE], []),
        ("This is hard. I would classify it as Theory.", [THEORY], []),
        # Names that do not exist.
        ("Deep Learning, Neural Networks", [NN], ["Deep Learning"]),
        ("Deep Learning", [], ["Deep Learning"]),
        ("Deep Learning\n\nThe paper belongs to Neural Networks.", [], ["Deep Learning"]),
        ("1. Deep Learning: x\n2. Theory: y", [THEORY], ["Deep Learning"]),
        (
            "Class: Deep Learning\nClass: Theory of Everything\nClass: Theory",
            [THEORY],
            ["Deep Learning", "Theory of Everything"],
        ),
        # A name inside another word, or in what explains.
        ("Class: Theoryish", [], ["Theoryish"]),
        ("Class: Theory-based", [], ["Theory-based"]),
        ("Class: Inneural Networks", [], ["Inneural Networks"]),
        ("The authors train neural networks with a new rule.", [], []),
        # Denials, refusals, nothing.
        ("The paper does not belong to Theory.", [], []),
        ("It belongs to none of Theory and Rule Learning.", [], []),
        ("I'm sorry, but I can't say whether it belongs to Theory.", [], []),
        ("", [], []),
        ("   \n\n", [], []),
        ("{}[]\0!?", [], []),
        ("\0" + "1\0", [], ["1"]),
    ],
)
def test_cora(answer, ranked, unknown):
    parsed = cora(answer)
    assert list(parsed.ranked) == ranked
    assert list(parsed.unknown) == unknown


@pytest.mark.parametrize(
    ("answer", "ranked"),
    [
        ("Type 2 diabetes", [2]),
        ("Type 2 diabetes, Type 1 diabetes\n\nThe paper says '...'", [2, 1]),
        ("Yes, the paper involves Type 1 diabetes and Experimentally induced diabetes.", [1, 0]),
        ("Experimentally induced diabetes. The rats were given streptozotocin.", [0]),
        ("Diabetes Mellitus Experimental; Diabetes Mellitus Type 2", [0, 2]),
        ("Diabetes Mellitus, Experimental", [0]),
        ("Type 1 diabetes: No\nType 2 diabetes: Yes", [2]),
        (
            "The paper does not involve any cases of Type 1 diabetes, Type 2 diabetes, or Experimentally induced "
            "diabetes.",
            [],
        ),
        ("Type 12 diabetes", []),
    ],
)
def test_pubmed(answer, ranked):
    assert list(pubmed(answer).ranked) == ranked


@pytest.mark.parametrize("names", [ARXIV, [f"arxiv cs {name[3:].lower()}" for name in ARXIV]])
def test_arxiv(names):
    parser = Parser(names, prompts.other_names(names))
    index = {name[-2:].lower(): number for number, name in enumerate(names)}
    parsed = parser("cs.CV, cs.AI, cs.XX, cs.LG (Machine Learning), cs.IT\n\nThis is CS. It is about cs.RO.")
    assert list(parsed.ranked) == [index[name] for name in ("cv", "ai", "lg", "it")]
    assert parsed.unknown == ("cs.XX",)
    assert parser("The paper is about CS. It is fine.").ranked == ()


def test_names_with_punctuation():
    parser = Parser(PRODUCTS)
    index = {name: number for number, name in enumerate(PRODUCTS)}
    answer = "Arts, Crafts and Sewing, all beauty, Beauty; Furniture & Décor, Home & Kitchen and Baby Products"
    named = [
        "Arts, Crafts & Sewing",
        "All Beauty",
        "Beauty",
        "Furniture & D&#233;cor",
        "Home & Kitchen",
        "Baby Products",
    ]
    assert list(parser(answer).ranked) == [index[name] for name in named]
    languages = Parser(["C", "C++", "C#", "Objective-C"])
    assert list(languages("C++, Objective-C, C#, C").ranked) == [1, 3, 2, 0]


def test_two_classes_with_one_name():
    with pytest.raises(StageBenchError, match="two classes are called 'Theory'"):
        Parser(["theory", "Theory"])


WORDS = st.text(string.ascii_letters, min_size=2, max_size=8)
NAMES = st.lists(
    st.lists(WORDS, min_size=1, max_size=3), min_size=2, max_size=9, unique_by=lambda words: " ".join(words).lower()
)


@settings(max_examples=150, deadline=None)
@given(NAMES, st.data())
def test_what_is_named_is_read_in_any_form(names, data):
    """Class names made of any words, written with other separators and in another case."""
    classes = ["_".join(words) for words in names]
    parser = Parser(classes)
    order = data.draw(st.permutations(range(len(classes))))[: data.draw(st.integers(1, len(classes)))]
    written = [data.draw(st.sampled_from([" ", "_", "-"])).join(names[number]) for number in order]
    written = [data.draw(st.sampled_from([str.upper, str.lower, str]))(name) for name in written]
    answer = "".join(f"Class: {name}\n" for name in written)
    assert parser(answer + "Explanation: none").ranked == tuple(order)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(st.sampled_from([*CORA, *"\n,.:-*()0 ", "Class:", "1. ", "not", "\0"])).map("".join),
    )
)
def test_any_answer_gives_each_class_at_most_once(answer):
    ranked = cora(answer).ranked
    assert len(set(ranked)) == len(ranked)
    assert set(ranked) <= set(range(7))


def test_a_long_answer_takes_no_time():
    for answer in (
        "(" * 50_000,
        "Theory " * 20_000,
        "- " * 50_000,
        "a, " * 50_000,
        "Class:" * 20_000,
        "Theory (" * 20_000,
    ):
        cora(answer)


@pytest.mark.parametrize("name", ["cora", "pubmed-no-text", "ogbn-arxiv-no-graph", "tape-arxiv23-no-text"])
def test_real_predictions_written_out_are_read_back(real_data: Path, name: str):
    """The ranked classes that TAPE read from GPT's answers, in the forms that its prompts ask for."""
    graph = folder.load(real_data / name)
    other = prompts.other_names(graph.label_names)
    parser = Parser(graph.label_names, other)
    shown = [(other.get(label) or (label.replace("_", " "),))[0] for label in graph.label_names]
    predictions = graph.predictions
    assert predictions is not None
    rows, first = np.unique(predictions, axis=0, return_index=True)
    assert len(first) > 10
    for row in rows[:2000]:
        named = [shown[number] for number in row if number >= 0]
        expected = [int(number) for number in row if number >= 0]
        numbered = "".join(f"{place}. {label}: the text says so.\n" for place, label in enumerate(named, 1))
        for answer in (f"{', '.join(named)}\n\nIt is so.", numbered, "".join(f"Class: {label}\n" for label in named)):
            assert list(parser(answer).ranked) == expected
