"""The judgement of ``twin``: who answers what, what is counted, when an adapter is promoted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from tests.conversations.builders import SAMPLE, surgery
from tests.conversations.test_judgement import GOOD
from tests.llm.anthropic_server import Server, running_server
from tests.llm.helpers import options as llm_options
from tracetune import hosted_calls
from tracetune.backends.remote import RemoteJobs
from tracetune.backends.together_options import TogetherOptions
from tracetune.conversations.ab_options import AbOptions, TwinEvaluationOptions
from tracetune.conversations.read import read_folder
from tracetune.conversations.rows import examples_of, preferences_of, ratings_of
from tracetune.conversations.scores import counted
from tracetune.conversations.sides import SideOptions, divide
from tracetune.conversations.suite import suite
from tracetune.datasets.llm_dataset import LlmAccess
from tracetune.errors import DataError
from tracetune.evaluation.generate import Answer
from tracetune.evaluation.metrics import records
from tracetune.files import write_json
from tracetune.hooks import ProjectHooks
from tracetune.llm.options import LlmOptions
from tracetune.pipelines import twin_judgement_stage as stage
from tracetune.pipelines import twin_metrics
from tracetune.pipelines.twin_answers import (
    CANNED,
    COLUMNS,
    Question,
    cheap_answers,
    frame,
    questions_of,
    table_row,
)
from tracetune.pipelines.twin_comparison import ask_judge
from tracetune.pipelines.twin_report_stage import write_twin_report
from tracetune.records import Example, Message, Preference, Rating
from tracetune.records.ctv3 import EvalCase, SftTurn
from tracetune.splits import SplitManifest

Document = dict[str, Any]

OPTIONS = TwinEvaluationOptions(max_new_tokens=4, batch_size=8, bootstrap=200)
CUT = "✂"
STALLING = "Would you like me to go ahead? I can do a few ways to start."


@dataclass(frozen=True)
class Corpus:
    """Rows of the sample, divided, with what the judgement reads."""

    examples: list[Example]
    preferences: list[Preference]
    ratings: list[Rating]
    records: list[SftTurn]
    cases: list[EvalCase]
    splits: Document
    surgery: Document

    def side(self, name: str) -> list[Example]:
        return SplitManifest.model_validate(self.splits).select(self.examples, name)

    def inputs(self) -> Document:
        """What :func:`answer_prompts` takes of it."""
        return {
            "test": self.side("test"),
            "train": self.side("train"),
            "examples": self.examples,
            "preferences": self.preferences,
            "ratings": self.ratings,
            "sft_records": self.records,
            "eval_cases": self.cases,
            "splits": self.splits,
        }


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    built, _, report = surgery(*read_folder(SAMPLE))
    examples = examples_of(built.sft, built.extras, tenant="demo")
    preferences = preferences_of(built.pairs, built.extras, tenant="demo")
    ratings = ratings_of(built.evals, built.extras, tenant="demo")
    manifest = divide([*examples, *preferences, *ratings], options=SideOptions(), seed=42)
    told = {
        "surgery": built.report.model_dump(mode="json"),
        "rewriting": report.model_dump(mode="json"),
    }
    return Corpus(
        examples=examples,
        preferences=preferences,
        ratings=ratings,
        records=built.sft,
        cases=built.evals,
        splits=manifest.model_dump(mode="json"),
        surgery=told,
    )


@pytest.fixture(scope="module")
def asked(corpus: Corpus) -> list[Question]:
    cases, groups = stage.held_out_cases(corpus.cases, corpus.ratings, corpus.splits)
    return questions_of(suite(), cases, groups, corpus.side("test"), corpus.records)


def table(
    asked: list[Question], corpus: Corpus, **answers: Callable[[Question], str | None]
) -> Any:
    """A table as a run gives it, of models that answer by a rule.

    None: the prompt did not fit; an answer that ends with :data:`CUT` was cut there.
    """
    rows = []
    for model, rule in answers.items():
        for one in asked:
            text = rule(one)
            finish = "stop" if text is not None else "too_long"
            if text is not None and text.endswith(CUT):
                text, finish = text.removesuffix(CUT), "length"
            answer = Answer(text or "", tokens=1, confidence=None, finish=finish)
            rows.append(table_row(one, model, answer, None))
    for model, given_answers in cheap_answers(asked, corpus.side("train")).items():
        rows += [
            table_row(one, model, answer, None)
            for one, answer in zip(asked, given_answers, strict=True)
        ]
    return frame(rows)


def own(one: Question) -> str:
    """What a perfect twin says: the own answer, and to cases what passes them."""
    if one.target is not None:
        return one.target
    if one.kind == "suite":
        return GOOD[one.row_id]
    return "```python\nprint('It is done, without a question.')\n```"


def stalling(one: Question) -> str:
    return STALLING


def candidates(judged: str | None = "sft", reason: str = "", **adapters: str) -> Document:
    return {
        "judged": judged,
        "status": "trained" if judged else "skipped",
        "reason": reason,
        "adapters": adapters,
        "rewards": None,
        "previous": {"path": None, "reason": "none was released"},
        "asked_at": "local",
    }


NOBODY = LlmAccess(Path("nowhere"), None)
JOBS = RemoteJobs(Path("nowhere"), None)


def compared(predictions: Any, corpus: Corpus, who: Document, **changes: Any) -> Document:
    """The A/B comparison without a judge."""
    options = OPTIONS.model_copy(update={"ab": AbOptions(**changes)})
    return ask_judge(predictions, corpus.side("test"), who, NOBODY, LlmOptions(), options, 1, False)


def judged(predictions: Any, corpus: Corpus, who: Document, ab: Document | None = None) -> Any:
    """Metrics, gate and scores."""
    ab = ab or compared(predictions, corpus, who)
    return stage.judge_twin(
        predictions, [], ab, corpus.cases, corpus.ratings, corpus.splits, who, OPTIONS
    )


def check(gate: Document, name: str) -> Document:
    return next(one for one in gate["checks"] if one["name"] == name)


# What models answer.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Document:
    """A base of random weights with two adapters that were saved as training saves them."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    root = tmp_path_factory.mktemp("twin")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [row.completion[-1].content for row in corpus.examples],
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}<|end|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant<|end|>{% endif %}"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=300,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")
    lora = LoraConfig(
        r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    for name in ("sft", "dpo"):
        folder = root / name
        get_peft_model(LlamaForCausalLM.from_pretrained(root / "base"), lora).save_pretrained(
            folder
        )
        tokenizer.save_pretrained(folder)
        write_json(folder / "status.json", {"status": "trained"})
        write_json(folder / "history.json", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}])
    base = {"path": str(root / "base"), "weights_sha256": None, "kind": "local", "id": "tiny"}
    return {"base": base, "root": root}


@pytest.fixture(scope="module")
def answered(tiny: Document, corpus: Corpus) -> tuple[Any, list[Document], Document]:
    """Predictions, rewards and candidates of a run with SFT and DPO."""
    stages = {f"{name}_adapter": tiny["root"] / name for name in ("sft", "dpo")}
    job = {"start_from": "x", "trainer": {"beta": 0.1}}
    plans = {"sft_plan": {"job": {}}, "dpo_plan": {"job": job}}
    none = {"path": None, "reason": "none was released"}
    together = TogetherOptions()
    who = stage.collect_twin(tiny["base"], none, together, **stages, **plans)
    predictions, rewards = stage.answer_prompts(
        **corpus.inputs(),
        base=tiny["base"],
        candidates=who,
        evaluation=OPTIONS,
        together=together,
        jobs=JOBS,
    )
    return predictions, rewards, who


def test_everybody_is_asked_the_same(answered, corpus):
    predictions, rewards, who = answered
    assert (who["judged"], who["output"], who["instruction"]) == ("dpo", {"compare": "twin"}, None)
    assert list(predictions.columns) == list(COLUMNS)
    rows = records(predictions)
    models = {"base", "sft", "dpo", "nearest", CANNED}
    assert {row["model"] for row in rows} == models
    questions = {model: [r["row_id"] for r in rows if r["model"] == model] for model in models}
    assert len({tuple(ids) for ids in questions.values()}) == 1
    kinds = Counter(row["kind"] for row in rows if row["model"] == "base")
    assert kinds == {"suite": 12, "corpus": 2, "prompt": len(corpus.side("test"))}
    # Prompts that do not fit the model are not answered and score nothing.
    missing = [row for row in rows if row["finish"] == "too_long"]
    assert missing
    assert all(row["answer_text"] is row["policy"] is row["agreement"] is None for row in missing)
    assert all(row["passed"] is False for row in missing if row["kind"] != "prompt")
    canned = [row for row in rows if row["model"] == CANNED]
    assert all(row["policy"] == 1.0 for row in canned)
    assert not any(row["passed"] for row in canned if row["row_id"] == "direct_implementation")
    assert {row["content_correctness"] for row in rows} == {None}
    pairs = SplitManifest.model_validate(corpus.splits).select(corpus.preferences, "test")
    assert 0 < len(rewards) <= len(pairs)
    assert {row["reference"] for row in rewards} == {"sft"}


def test_the_whole_judgement_of_a_run(answered, corpus, tmp_path):
    predictions, rewards, who = answered
    ab = compared(predictions, corpus, who)
    assert ab["status"] == "none"
    assert "llm.provider=anthropic" in ab["reason"]
    metrics, gate, scores = stage.judge_twin(
        predictions, rewards, ab, corpus.cases, corpus.ratings, corpus.splits, who, OPTIONS
    )
    json.dumps([metrics, gate, scores], allow_nan=False)
    assert metrics["cases"] == {"suite": 12, "corpus": 2}
    assert metrics["rewards"]["n"] == len(rewards)
    assert metrics["models"]["dpo"]["unanswered"] > 0
    measured = metrics["models"]["dpo"]["policy"]
    assert measured["n"] == metrics["n"] - metrics["models"]["dpo"]["unanswered"]
    assert metrics["models"]["dpo"]["parts"]["content_relevance"]["mean"] is None
    assert metrics["ab"]["heuristic"]["failed"] > 0
    assert not gate["promote"]
    assert {one["name"] for one in gate["checks"]} == {
        *("critical_cases", "other_cases", "policy_gain", "holds_against_cheap", "own_answers"),
        "ab_not_lost",
    }
    assert scores["models"]["dpo"]["rates"]["suite"]["n"] == 12
    figures = stage.draw_twin_figures(metrics, scores, who)
    assert all(figure.data for figure in figures[:4])
    assert len(figures) == len(stage.FIGURES)


def test_a_row_on_two_sides_stops_before_anything_is_answered(tiny, corpus):
    rows = dict(corpus.splits["rows"])
    test = corpus.side("test")[0].id
    rows[test] = {**rows[test], "split": "train"}
    broken = {**corpus.inputs(), "splits": {**corpus.splits, "rows": rows}}
    missing = candidates("sft", sft=str(tiny["root"] / "there is none"))
    with pytest.raises(DataError):
        stage.answer_prompts(
            **broken,
            base=tiny["base"],
            candidates=missing,
            evaluation=OPTIONS,
            together=TogetherOptions(),
            jobs=JOBS,
        )


# When an adapter is promoted.


def test_a_perfect_twin_is_promoted(asked, corpus):
    predictions = table(asked, corpus, base=stalling, sft=own)
    metrics, gate, scores = judged(predictions, corpus, candidates(sft="x"))
    assert gate["promote"], gate["verdict"]
    assert scores["models"]["sft"]["deploy"] is True
    assert scores["models"]["base"]["critical_failures"]
    assert metrics["models"]["sft"]["agreement"]["mean"] == 1.0
    assert metrics["comparisons"]["base"]["policy"]["low"] > 0
    heuristic = metrics["ab"]["heuristic"]
    assert (heuristic["wins"], heuristic["losses"]) == (metrics["n"], 0)
    # Prompts of one conversation are no independent witnesses.
    assert metrics["groups"] < metrics["n"]
    assert heuristic["groups"] == {"n": metrics["groups"], "won": metrics["groups"], "lost": 0}
    assert heuristic["p"] == pytest.approx(2 * 0.5 ** metrics["groups"])


def one_critical_fails(one: Question) -> str:
    return "name: billing" if one.row_id == "json_only" else own(one)


def others_fail(one: Question) -> str:
    critical = one.case is not None and one.case.priority == "critical"
    return own(one) if critical or one.kind == "prompt" else "…"


def says_nothing_of_its_own(one: Question) -> str:
    return own(one) if one.case is not None else "Zzz."


def loses_in_length(one: Question) -> str:
    return own(one) if one.case is not None else " ".join((one.target or "").split()[:1]) or "x"


@pytest.mark.parametrize(
    ("sft", "base", "failed"),
    [
        (one_critical_fails, stalling, {"critical_cases"}),
        (others_fail, stalling, {"other_cases"}),
        (own, own, {"policy_gain"}),
        (says_nothing_of_its_own, stalling, {"own_answers"}),
        (stalling, own, None),
    ],
)
def test_each_condition_can_fail_alone(asked, corpus, sft, base, failed):
    predictions = table(asked, corpus, base=base, sft=sft)
    gate = judged(predictions, corpus, candidates(sft="x"))[1]
    found = {one["name"] for one in gate["checks"] if not one["passed"]}
    everything = {one["name"] for one in gate["checks"]}
    assert found == (everything if failed is None else failed), gate["verdict"]
    assert not gate["promote"]
    assert gate["verdict"].startswith("Do not promote the SFT adapter: ")


def test_who_leaves_hard_prompts_unanswered_is_compared_on_the_others(asked, corpus):
    """The lead over a cheap baseline is that on the same prompts."""
    hard = {one.row_id for one in asked if one.kind == "prompt"} - {asked[-1].row_id}
    predictions = table(
        asked, corpus, base=stalling, sft=lambda one: None if one.row_id in hard else own(one)
    )
    metrics, gate, _ = judged(predictions, corpus, candidates(sft="x"))
    # One conversation shows no gain, however large it is.
    assert check(gate, "policy_gain")["value"] is None
    assert "too few conversations" in check(gate, "policy_gain")["words"]
    assert "too few conversations" in gate["verdict"]
    assert metrics["models"]["sft"]["unanswered"] == len(hard)
    assert metrics["comparisons"]["nearest"]["agreement"]["n"] == 1
    assert "on 1 prompts" in check(gate, "holds_against_cheap")["words"]
    assert metrics["ab"]["heuristic"]["failed"] == len(hard)
    silent = table(
        asked, corpus, base=stalling, sft=lambda one: None if one.kind == "prompt" else own(one)
    )
    metrics, gate, _ = judged(silent, corpus, candidates(sft="x"))
    assert metrics["models"]["sft"]["policy"]["mean"] is None
    failed = {one["name"] for one in gate["checks"] if not one["passed"]}
    assert failed == {"policy_gain", "holds_against_cheap", "own_answers", "ab_not_lost"}
    assert "no pair of answers could be compared" in gate["verdict"]
    assert "loses the A/B comparison" not in gate["verdict"]


def test_an_answer_that_was_cut_wins_nothing_by_its_missing_end(asked, corpus):
    """The same answers, of which one model's stop before they ask."""
    work = "Here is the plan. First the tests are run, then the change is made. "
    whole, cut = f"{work}Is that fine?", f"{work}{CUT}"
    predictions = table(asked, corpus, base=lambda _: whole, sft=lambda _: cut)
    metrics, gate, scores = judged(predictions, corpus, candidates(sft="x"))
    ours = metrics["models"]["sft"]
    assert (ours["cut"], ours["parts"]["policy_no_question_end"]["n"]) == (metrics["n"], 0)
    assert (ours["policy"]["n"], ours["heuristic"]["n"]) == (metrics["n"], 0)
    gain = metrics["comparisons"]["base"]["policy"]
    assert (gain["mean"], gain["high"]) == (0.0, 0.0)
    assert metrics["ab"]["heuristic"]["wins"] == 0
    # How a case would have ended nobody knows: all have failed, and it says why.
    suite_of = scores["models"]["sft"]
    assert suite_of["rates"]["all"]["passed"] == 0
    assert all("the answer was cut" in case["failures"] for case in suite_of["cases"])
    rows = records(predictions)
    assert not any(r["passed"] for r in rows if r["model"] == "sft" and r["kind"] != "prompt")
    good = table(asked, corpus, base=stalling, sft=lambda one: own(one) + CUT)
    gate = judged(good, corpus, candidates(sft="x"))[1]
    assert {one["name"] for one in gate["checks"] if not one["passed"]} == {
        *("critical_cases", "other_cases"),
    }


def test_a_canned_answer_is_not_promoted(asked, corpus):
    predictions = table(asked, corpus, base=stalling, sft=lambda _: "Done.")
    gate = judged(predictions, corpus, candidates(sft="x"))[1]
    assert check(gate, "policy_gain")["passed"]
    assert check(gate, "holds_against_cheap")["passed"]
    assert not check(gate, "own_answers")["passed"]
    assert not gate["promote"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1, None]), max_size=12))
def test_rates_are_of_comparisons_that_did_not_fail(outcomes):
    groups = [str(place // 2) for place in range(len(outcomes))]
    found = twin_metrics.ab_figures(counted(outcomes), groups, OPTIONS)
    known = [one for one in outcomes if one is not None]
    assert (found["n"], found["failed"]) == (len(known), outcomes.count(None))
    assert found["wins"] + found["losses"] + found["ties"] == found["n"]
    if not known:
        assert found["win_rate"] is found["p"] is found["difference"]["mean"] is None
        return
    assert 0 < found["p"] <= 1
    difference = found["difference"]
    assert difference["mean"] == pytest.approx(sum(known) / len(known))
    assert difference["low"] <= difference["mean"] + 1e-9
    assert difference["mean"] <= difference["high"] + 1e-9


# Nothing to judge.


def report_of(
    metrics: Document, gate: Document, scores: Document, ab: Document, who: Document, corpus: Corpus
) -> tuple[str, str]:
    plan = {"job": None, "job_hash": None, "estimate": None, "price": None}
    cases, mean, comparison, losses, rewards = stage.draw_twin_figures(
        metrics, scores, {**who, "adapters": {}}
    )
    return write_twin_report(
        metrics=metrics,
        gate=gate,
        scores=scores,
        ab=ab,
        surgery=corpus.surgery,
        splits=corpus.splits,
        base={"id": "embedded", "path": "/somewhere"},
        decision={"reason": "105 gold turns"},
        candidates=who,
        cases=cases,
        score_figure=mean,
        comparison=comparison,
        losses=losses,
        rewards=rewards,
        tenant="demo",
        name="demo",
        sft_plan=plan,
        dpo_plan=plan,
        sft_preflight={},
        dpo_preflight={},
    )


def test_without_an_adapter_all_is_unjudged_and_says_why(corpus):
    who = candidates(None, "dry run: nothing is trained")
    ab = compared(frame([]), corpus, who)
    metrics, gate, scores = judged(frame([]), corpus, who, ab)
    assert ab["status"] == metrics["status"] == gate["status"] == scores["status"] == "unjudged"
    assert "dry run" in gate["verdict"]
    assert (metrics["n"], metrics["rewards"], metrics["examples"]) == (0, None, [])
    page, summary = report_of(metrics, gate, scores, ab, who, corpus)
    assert "Not judged" in page
    assert "Verdict  Not judged: dry run: nothing is trained." in summary


def test_an_adapter_that_nobody_can_ask_is_unjudged(tiny, corpus):
    hosted = {**tiny["base"], "kind": "hosted", "id": "maker/model"}
    together, none = TogetherOptions(), {"path": None, "reason": "the base is hosted"}
    who = stage.collect_twin(
        hosted, none, together, sft_adapter=tiny["root"] / "sft", sft_plan={"job": {}}
    )
    assert (who["judged"], who["status"]) == ("sft", "trained")
    predictions, rewards = stage.answer_prompts(
        **corpus.inputs(),
        base=hosted,
        candidates=who,
        evaluation=OPTIONS,
        together=together,
        jobs=JOBS,
    )
    assert (len(predictions), rewards) == (0, [])
    ab = compared(predictions, corpus, who)
    metrics, gate, _ = judged(predictions, corpus, who, ab)
    assert (metrics["status"], gate["status"], gate["adapter"]) == ("unjudged", "unjudged", "sft")
    assert "base_model.local" in gate["verdict"]
    assert ab["reason"] == who["reason"]


def test_without_a_held_out_prompt_the_suite_is_judged_alone(asked, corpus):
    cases = [one for one in asked if one.kind != "prompt"]
    predictions = table(cases, corpus, base=stalling, sft=own)
    who = candidates(sft="x")
    ab = compared(predictions, corpus, who)
    metrics, gate, scores = judged(predictions, corpus, who, ab)
    assert (ab["status"], ab["reason"]) == ("unjudged", "there is no held-out prompt")
    assert (metrics["status"], metrics["n"], gate["status"]) == ("unjudged", 0, "unjudged")
    measured = metrics["models"]["sft"]["policy"]
    assert measured == {"n": 0, "mean": None, "low": None, "high": None}
    assert scores["models"]["sft"]["rates"]["suite"]["rate"] == 1.0
    page, summary = report_of(metrics, gate, scores, ab, who, corpus)
    assert "Regression suite" in page
    assert "SFT adapter 14/14" in summary


def test_without_evaluation_cases_only_the_named_ones_count(asked, corpus):
    none = replace(corpus, cases=[], ratings=[])
    left = [one for one in asked if one.kind != "corpus"]
    predictions = table(left, none, base=stalling, sft=own)
    metrics, gate, scores = judged(predictions, none, candidates(sft="x"))
    rates = scores["models"]["sft"]["rates"]
    assert rates["corpus"] == {"n": 0, "passed": 0, "rate": None, "low": None, "high": None}
    assert (rates["all"]["n"], metrics["cases"]["corpus"], gate["promote"]) == (12, 0, True)


# The A/B comparison.


def test_whom_the_adapter_is_held_against(asked, corpus):
    predictions = table(asked, corpus, base=stalling, sft=own, dpo=own)
    who = candidates("dpo", sft="x", dpo="y")
    assert compared(predictions, corpus, who)["status"] == "none"
    assert compared(predictions, corpus, who, against="sft")["status"] == "none"
    missing = compared(predictions, corpus, who, against="previous")
    assert missing["status"] == "unjudged"
    assert "none was released" in missing["reason"]
    gate = judged(predictions, corpus, who, missing)[1]
    assert "ab_not_lost" not in [one["name"] for one in gate["checks"]]
    assert gate["promote"]
    assert gate["verdict"].endswith(
        "It was not compared: twin_evaluation.ab.against=previous: there is none (none was "
        "released)."
    )
    assert "does not lose" not in gate["verdict"]
    worse = table(asked, corpus, base=own, sft=own, dpo=stalling)
    verdict = judged(worse, corpus, who, missing)[1]["verdict"]
    assert "It was not compared: " in verdict
    assert "loses the A/B comparison" not in verdict
    itself = compared(predictions, corpus, candidates("sft", sft="x"), against="sft")
    assert "the SFT adapter itself" in itself["reason"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A judge that always likes the answer that stalls."""
    monkeypatch.setattr(hosted_calls, "_FIRST_WAIT", 0.02)

    def answer(params: Document) -> Document:
        prompt = params["messages"][-1]["content"]
        first = prompt.split('<answer name="A">')[1].split("</answer>")[0]
        return {"reason": "polite & <b>kind</b>", "better": "A" if STALLING in first else "B"}

    with running_server() as state:
        state.answer = answer
        yield state


def test_the_judge_decides_where_there_is_one(server, asked, corpus, tmp_path):
    predictions = table(asked, corpus, base=stalling, sft=own)
    who, access = candidates(sft="x"), LlmAccess(tmp_path, server.key)
    llm = llm_options(server, "direct", concurrency=1)
    test = corpus.side("test")
    ab = ask_judge(predictions, test, who, access, llm, OPTIONS, 1, False)
    assert (ab["status"], ab["writer"]) == ("judged", "Anthropic claude-haiku-5-5")
    assert ab["report"]["asked"] == sum(server.paid.values()) == 2 * len(test)
    metrics, gate, scores = judged(predictions, corpus, who, ab)
    found = metrics["ab"]["judge"]["figures"]
    assert (found["losses"], found["n"]) == (len(test), len(test))
    assert metrics["ab"]["heuristic"]["wins"] == len(test)
    assert not gate["promote"]
    assert "Anthropic claude-haiku-5-5: 0 won" in check(gate, "ab_not_lost")["words"]
    page, summary = report_of(metrics, gate, scores, ab, who, corpus)
    assert "polite &amp; &lt;b&gt;kind&lt;/b&gt;" in page
    assert "Anthropic claude-haiku-5-5 0 won" in summary
    again = ask_judge(predictions, test, who, access, llm, OPTIONS, 1, False)
    assert again["report"]["verdicts"] == ab["report"]["verdicts"]
    assert server.paid_twice() == 0


def test_a_judge_that_is_not_done_makes_the_verdict_wait(server, asked, corpus, tmp_path):
    server.polls = 10_000
    predictions = table(asked, corpus, base=stalling, sft=own)
    who, access = candidates(sft="x"), LlmAccess(tmp_path, server.key)
    llm = llm_options(server, "batch", deadline_hours=0.2 / 3600)
    ab = ask_judge(predictions, corpus.side("test"), who, access, llm, OPTIONS, 1, False)
    assert ab["status"] == "waiting"
    metrics, gate, scores = judged(predictions, corpus, who, ab)
    assert (gate["status"], gate["promote"]) == ("unjudged", False)
    assert "has not ended" in gate["verdict"]
    assert "has not ended" in report_of(metrics, gate, scores, ab, who, corpus)[1]


def test_a_dry_run_says_what_the_judge_would_cost_and_asks_nobody(server, corpus, tmp_path):
    who = candidates(None, "dry run: nothing is trained")
    ab = ask_judge(
        frame([]),
        corpus.side("test"),
        who,
        LlmAccess(tmp_path, None),
        llm_options(server),
        OPTIONS,
        1,
        True,
    )
    assert ab["estimate"]["questions"] == 2 * len(corpus.side("test"))
    assert ab["estimate"]["usd"] > 0
    assert not server.calls
    metrics, gate, scores = judged(frame([]), corpus, who, ab)
    page = report_of(metrics, gate, scores, ab, who, corpus)[0]
    assert "questions, for about" in page
    assert "USD at most" not in page


def test_the_price_of_the_judge_counts_what_tools_gave(corpus, server, tmp_path):
    row = corpus.side("test")[0]
    long = [
        Message(role="assistant", content="read_file()"),
        Message(role="tool", content="line of a file " * 200),
    ]
    with_tools = row.model_copy(update={"completion": [*long, *row.completion]})
    prices = [
        ask_judge(
            frame([]),
            [one],
            candidates(None, "dry run"),
            NOBODY,
            llm_options(server),
            OPTIONS,
            1,
            True,
        )["estimate"]["usd"]
        for one in (row, with_tools)
    ]
    assert prices[1] > prices[0]


def test_the_nearest_answer_is_no_call_of_a_tool(asked, corpus):
    row = corpus.side("train")[0]
    call = [
        Message(role="assistant", content="read_file()"),
        Message(role="tool", content="print(1)"),
    ]
    with_tools = row.model_copy(update={"completion": [*call, *row.completion[-1:]]})
    question = replace(asked[-1], prompt=row.prompt)
    [nearest] = cheap_answers([question], [with_tools])["nearest"]
    assert nearest.text == row.completion[-1].content


def test_no_endpoint_is_opened_for_named_cases_alone(tiny, corpus):
    together = TogetherOptions(judge_on="endpoint")
    who = candidates("sft", sft=str(tiny["root"] / "sft"))
    predictions, rewards = stage.answer_prompts(
        **{**corpus.inputs(), "test": []},
        base=tiny["base"],
        candidates=who,
        evaluation=OPTIONS,
        together=together,
        jobs=JOBS,  # without a key: asking anybody would be an error
    )
    assert (len(predictions), rewards) == (0, [])
    metrics, gate, _ = judged(predictions, corpus, who, compared(predictions, corpus, who))
    assert metrics["reason"] == "there is no held-out prompt"
    assert gate["status"] == "unjudged"


def test_the_run_names_the_command_that_goes_on_while_the_judge_works(caplog):
    """As it does for jobs that run elsewhere."""
    found = {"status": "waiting", "reason": "the batch has not ended"}
    nodes = [Node(lambda: found, inputs=None, outputs="ab", name="ask_judge")]
    pipeline = Pipeline(nodes, namespace="twin", outputs=None)
    catalog = DataCatalog({"twin.ab": MemoryDataset(found)})
    with caplog.at_level("INFO", logger="tracetune"):
        ProjectHooks()._print_continuation(
            {"runtime_params": {"llm": {"provider": "anthropic"}}, "env": None}, pipeline, catalog
        )
    assert caplog.messages == [
        "Waiting  the batch has not ended",
        "Go on    kedro run --pipeline=twin --params=llm.provider=anthropic",
    ]


# The page.


def test_the_page_shows_what_is_not_measured_and_escapes_what_models_say(asked, corpus):
    def nasty(one: Question) -> str:
        return "<script>alert(1)</script> done as asked"

    predictions = table(asked, corpus, base=stalling, sft=own, dpo=nasty)
    who = candidates("dpo", sft="x", dpo="y")
    ab = compared(predictions, corpus, who)
    metrics, gate, scores = judged(predictions, corpus, who, ab)
    page, summary = report_of(metrics, gate, scores, ab, who, corpus)
    assert "<script>alert(1)" not in page
    assert page.count("not measured") >= 10
    for words in ("Regression suite", "Case by case", "Corpus surgery", "gave for nothing"):
        assert words in page
    assert "in the original it passed every check" in page
    assert "quarantined" in page
    for line in ("Rows ", "Cases ", "Policy ", "Words ", "A/B ", "Verdict "):
        assert any(found.startswith(line) for found in summary.splitlines())
    assert "/somewhere" not in page
