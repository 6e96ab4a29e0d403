"""A question to a server that may fail or hang: an answer in time, or an error in time."""

import threading

import pytest

from webapp.storage import health
from webapp.storage.health import Question


def test_question_passes_errors_on_and_is_asked_anew():
    answers = iter([ValueError("odd"), 7])

    def ask():
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    question = Question(ask)
    with pytest.raises(ValueError, match="odd"):
        question.answer()
    assert question.answer() == 7


def test_question_not_answered_in_time_is_waited_for_and_not_asked_again(monkeypatch):
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.05)
    goes_on, asked = threading.Event(), []

    def ask():
        asked.append(None)
        goes_on.wait(60)
        return len(asked)

    question = Question(ask)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            question.answer()
    assert len(asked) == 1
    monkeypatch.setattr(health, "ANSWER_SECONDS", 60)
    goes_on.set()
    assert question.answer() and question.answer() > 1, "asked anew, once it had answered"
