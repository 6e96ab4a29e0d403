"""Any order of decisions, undoings and deletions leaves the corrections as a simple model of the review says."""

from dataclasses import dataclass, field

from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, event, func, select

from tests.support.corrections import add_correction, digits
from tests.support.forms import forms
from webapp.corrections import review
from webapp.corrections.review import DecisionRequest
from webapp.corrections.store import Corrections, image_of
from webapp.storage.schema import REVIEW_STATES, Correction, Review

MOST = 3  # few, so that much is decided about each


@dataclass(frozen=True)
class Decision:
    """What a correction's state, label and reason were and became."""

    number: int
    before: tuple
    after: tuple


@dataclass
class Model:
    """The review as one would tell it: what each correction is, the twins of each, and the decisions in their order.

    What is decided about a first holds for its twins, of which nobody has seen any.
    """

    rows: dict[int, tuple] = field(default_factory=dict)
    meant: dict[int, int] = field(default_factory=dict)
    twins: dict[int, list[int]] = field(default_factory=dict)  # of firsts alone
    batches: dict[str, list[Decision]] = field(default_factory=dict)

    def send(self, number: int, label: int) -> None:
        self.rows[number], self.meant[number], self.twins[number] = ("received", label, None), label, []

    def send_twin(self, number: int, first: int) -> None:
        self.rows[number], self.meant[number] = self.rows[first], self.meant[first]
        self.twins[first].append(number)

    def first_of(self, number: int) -> int:
        return next((first for first, twins in self.twins.items() if number in twins), number)

    def become(self, first: int, what: tuple) -> None:
        self.rows.update(dict.fromkeys([first, *self.twins[first]], what))

    def decide(self, wish: DecisionRequest) -> list[Decision]:
        done = []
        for number in sorted({self.first_of(number) for number in set(wish.ids) & set(self.rows)}):
            state, label, _ = before = self.rows[number]
            after = (wish.state, label if wish.label is None else wish.label, wish.reason)
            if wish.shown in (None, state) and after != before:
                done.append(Decision(number, before, after))
                self.become(number, after)
        return done

    def undo(self, batch: str) -> list[int]:
        """Takes back what nobody has decided about since."""
        later = list(self.batches)[list(self.batches).index(batch) + 1 :]
        decided_since = {decision.number for name in later for decision in self.batches[name]}
        undone = []
        for decision in self.batches.pop(batch):
            if decision.number not in decided_since and self.rows[decision.number] == decision.after:
                self.become(decision.number, decision.before)
                undone.append(decision.number)
        return undone

    def delete(self, number: int) -> None:
        """Those that nobody has seen wait again, as if they had come in just now."""
        del self.rows[number]
        if number not in self.twins:
            self.twins[self.first_of(number)].remove(number)
        elif twins := self.twins.pop(number):
            first, *self.twins[twins[0]] = twins
            self.become(first, ("received", self.meant[first], None))
        kept = {name: [one for one in done if one.number != number] for name, done in self.batches.items()}
        self.batches = {name: done for name, done in kept.items() if done}


class ReviewMachine(RuleBasedStateMachine):
    def __init__(self, settings, database):
        super().__init__()
        self.settings, self.database = settings, database
        self.model, self.sent = Model(), 0
        with database.writing() as session:
            session.execute(delete(Correction))

    def chosen(self, places) -> tuple[int, ...]:
        """The numbers at these places, and one that is not there any more or not yet."""
        there = sorted(self.model.rows)
        return tuple(dict.fromkeys(there[place] if place < len(there) else 10**6 + place for place in places))

    @initialize(count=st.integers(1, MOST))
    def begin(self, count):
        for _ in range(count):
            self.send()

    def send(self):
        (image, label), = digits(1, 100 * self.sent)  # fmt: skip
        self.model.send(add_correction(self.settings, self.database, image, label), label)
        self.sent += 1

    def send_twin(self, number: int) -> None:
        """The same drawing, from somewhere else."""
        if number in self.model.rows:
            with self.database.reading() as session:
                row = session.get(Correction, number)
            twin = add_correction(self.settings, self.database, image_of(row), row.meant)
            self.model.send_twin(twin, self.model.first_of(number))

    # One rule: of several, Hypothesis leaves some out in each run, and what matters is their interplay.
    @rule(
        act=st.sampled_from(["decide", "decide", "decide", "undo", "undo", "delete", "twin"]),
        places=st.lists(st.integers(0, MOST), min_size=1, max_size=3),
        kind=st.sampled_from([("approved", None, None), ("approved", 1, None), ("refused", None, "A face.")]),
        shown=st.sampled_from([None, None, *REVIEW_STATES]),
        which=st.none() | st.integers(0, 5),
    )
    def step(self, act, places, kind, shown, which):
        if act == "decide":
            self.decide(DecisionRequest(self.chosen(places), *kind, shown))
        elif act == "undo":
            self.undo(which)
        elif act == "twin":
            self.send_twin(self.chosen(places)[0])
        else:
            self.delete(self.chosen(places)[0])

    def decide(self, wish: DecisionRequest) -> None:
        with self.database.writing() as session:
            done = review.decide(session, wish, "a test")
        expected = self.model.decide(wish)
        assert list(done.decided) == [decision.number for decision in expected]
        assert set(done.gone) == set(wish.ids) - set(self.model.rows)
        assert (done.batch is None) == (not expected)
        if done.batch:
            self.model.batches[done.batch] = expected

    def undo(self, which: int | None) -> None:
        """Takes back the last batch, or another one that is named."""
        batches = list(self.model.batches)
        named = batches[which % len(batches)] if which is not None and batches else None
        with self.database.writing() as session:
            found = review.undo(session, named)
        if not batches:
            assert found is None
            return
        before = self.model.batches[named or batches[-1]][0].before[0]
        assert found == (self.model.undo(named or batches[-1]), before)

    def delete(self, number: int) -> None:
        """Deletes one, or none, and has another one come in unless a twin takes its place."""
        Corrections(self.database, self.settings).delete(number)
        if number in self.model.rows:
            self.model.delete(number)
            if len(self.model.twins) < MOST:
                self.send()

    @invariant()
    def all_is_as_the_model_says(self):
        with self.database.reading() as session:
            found = session.scalars(select(Correction).order_by(Correction.id)).all()
            reviews = session.scalar(select(func.count()).select_from(Review))
        assert {row.id: (row.state, row.label, row.reason) for row in found} == self.model.rows
        firsts = {
            row.id: [twin.id for twin in found if twin.duplicate_of == row.id]
            for row in found
            if row.duplicate_of is None
        }
        assert firsts == self.model.twins
        assert reviews == sum(map(len, self.model.batches.values()))


@forms("count, steps", (5, 20), (1500, 60))
def test_review_any_steps_agree_with_the_model(settings, database, count, steps):
    # What is kept is what this is about; waiting for the disk at each step would only take long.
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    run_state_machine_as_test(
        lambda: ReviewMachine(settings, database),
        settings=examples(max_examples=count, stateful_step_count=steps, deadline=None),
    )
