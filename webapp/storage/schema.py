"""The tables of the database. `migrations/` makes them; each change here needs one there."""

from __future__ import annotations

import json
import time
from typing import Any, Literal, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    TypeDecorator,
    false,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from model.inference.weights import ModelCard, digest
from model.presets import canonical

Active = Literal["queued", "running"]
ACTIVE = get_args(Active)
ReviewState = Literal["received", "approved", "refused"]
REVIEW_STATES = get_args(ReviewState)
BIGGEST_ROW_ID = 2**31 - 1
Ended = Literal["finished", "failed", "cancelled", "lost"]
ENDED = get_args(Ended)
RunState = Active | Ended


class PresetName(TypeDecorator[str]):
    """A preset's name. Rows hold former names as well; all are read by their present one."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and canonical(value)

    process_result_value = process_bind_param


class Base(DeclarativeBase):
    type_annotation_map = {float: Double, dict: JSON, list: JSON, bytes: LargeBinary}


class Version(Base):
    """One trained model: its weights as safetensors bytes and its card. Never changed once written."""

    __tablename__ = "version"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time)
    source: Mapped[str]  # "shipped" or "run"
    run_id: Mapped[int | None]
    preset: Mapped[str] = mapped_column(PresetName)
    sha256: Mapped[str]
    weights: Mapped[bytes] = mapped_column(deferred=True)
    card: Mapped[dict]
    validation_accuracy: Mapped[float]
    test_accuracy: Mapped[float | None]

    @property
    def name(self) -> str:
        return f"v{self.id}"

    @classmethod
    def of(cls, data: bytes, card: ModelCard, source: str, run_id: int | None = None) -> Version:
        """A new one with these weights."""
        return cls(
            source=source,
            run_id=run_id,
            preset=card.preset,
            sha256=digest(data),
            weights=data,
            card=card.as_dict(),
            validation_accuracy=card.validation_accuracy,
            test_accuracy=card.test_accuracy,
        )


class Promotion(Base):
    """Which version has answered since when, who or what put it there and why. The last row names the champion."""

    __tablename__ = "promotion"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    from_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # the champion until then
    at: Mapped[float] = mapped_column(default=time.time)
    by: Mapped[str]
    why: Mapped[str]


class Comparison(Base):
    """A challenger measured against the champion of that time: `model.evaluation.comparison.Evidence.as_dict()`, or
    what an earlier release made, with sentences."""

    __tablename__ = "comparison"
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    champion_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    at: Mapped[float] = mapped_column(default=time.time)
    passed: Mapped[bool]
    evidence: Mapped[dict]


class Run(Base):
    """One training. Its row is the truth about it; a worker holds it by `attempt` and a lease that it renews."""

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="retrain")
    state: Mapped[str]  # of ACTIVE or ENDED
    preset: Mapped[str] = mapped_column(PresetName)
    epochs: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    processes: Mapped[int] = mapped_column(default=1, server_default="1")  # that train it together
    corrections: Mapped[bool] = mapped_column(default=False, server_default=false())  # the approved ones
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # whose weights fine-tuning goes on from
    requested_by: Mapped[str]
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    failed_attempts: Mapped[int] = mapped_column("losses", default=0, server_default="0")  # their process was lost
    lease_until: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    progress: Mapped[dict] = mapped_column(default=dict)
    history: Mapped[list] = mapped_column(default=list)
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    error: Mapped[str | None]

    __table_args__ = (
        # At most one active run: the database refuses a second start, whichever process asks.
        Index(
            "one_active_run",
            "kind",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )


class Checkpoint(Base):
    """Where a run under way stands after its last epoch: what the next attempt goes on from. Gone when the run ends."""

    __tablename__ = "checkpoint"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    at: Mapped[float] = mapped_column(default=time.time)
    data: Mapped[bytes]


class Correction(Base):
    """A drawing with the digit that its author meant, kept with the author's consent.

    `meant` and `label` are 0 to 9, or NO_DIGIT: the author's word, and the reviewer's. `submitter` is a keyed digest of
    the sender's address. A correction nearly identical to an earlier one is its duplicate: reviewed with it, and learnt
    from once.
    """

    __tablename__ = "correction"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    submitter: Mapped[str] = mapped_column("source", index=True)
    receipt_sha256: Mapped[str] = mapped_column(unique=True)  # of the secret in the receipt's address
    meant: Mapped[int]
    label: Mapped[int]
    digit_image: Mapped[bytes]  # uint8 (28, 28)
    picture: Mapped[bytes] = mapped_column(deferred=True)  # a PNG of our own making
    answered: Mapped[dict]  # verdict, digits, reason, top, not_a_digit, as POST /predict answers
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # which answered; None for an imported one
    held_out: Mapped[bool]  # never learnt from: for comparing versions
    state: Mapped[str] = mapped_column(default="received")  # of REVIEW_STATES
    reason: Mapped[str | None]  # why it was refused
    decided_at: Mapped[float] = mapped_column(default=0.0, server_default="0")  # when a reviewer last changed it
    duplicate_of: Mapped[int | None] = mapped_column("twin_of", ForeignKey("correction.id"), index=True)
    suspicion: Mapped[float | None]  # 0 to 1; None until it is computed
    doubt: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))  # what the suspicion rests on

    @classmethod
    def firsts(cls, state: str) -> tuple[ColumnElement[bool], ...]:
        """The conditions of those in a state without the duplicates, which go with their first."""
        return cls.state == state, cls.duplicate_of.is_(None)

    __table_args__ = (
        # Pages of the review and their numbers come from it alone, however many were decided.
        Index("ix_correction_review", "state", "twin_of", "decided_at", "id"),
        # A worker looks for those that nobody has judged every few seconds.
        Index("ix_correction_unjudged", "state", "suspicion"),
        # A number is never used again: a decision about one that was deleted must not fall on the next one sent.
        {"sqlite_autoincrement": True},
    )


class Review(Base):
    """One decision about one correction, with what it replaced; decisions taken together share a `batch`."""

    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[str] = mapped_column(index=True)
    at: Mapped[float] = mapped_column(default=time.time)
    by: Mapped[str]
    correction_id: Mapped[int] = mapped_column(ForeignKey("correction.id", ondelete="CASCADE"), index=True)
    state: Mapped[str]
    label: Mapped[int]
    reason: Mapped[str | None]
    state_before: Mapped[str]
    label_before: Mapped[int]
    reason_before: Mapped[str | None]


class Import(Base):
    """A file of digits that a worker takes in as corrections. Its row is the truth about it; a worker holds it by
    `attempt` and tells its progress as long as it does."""

    __tablename__ = "import"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time)
    updated_at: Mapped[float] = mapped_column(default=time.time)
    requested_by: Mapped[str]
    state: Mapped[str]  # of ACTIVE, "finished" or "failed"
    name: Mapped[str]  # of the file, as it may be shown
    sha256: Mapped[str]
    digits: Mapped[int]  # that the file holds
    fraction: Mapped[float] = mapped_column(default=0.0)
    done: Mapped[int] = mapped_column(default=0)  # digits that are stored, or were there already
    added: Mapped[int] = mapped_column(default=0)  # the first of these
    attempt: Mapped[int] = mapped_column(default=0)
    failed_attempts: Mapped[int] = mapped_column("losses", default=0)  # their process was lost
    error: Mapped[str | None]


class ImportFile(Base):
    """The file of an import under way. Apart from its row, which is written each second; gone when the import ends."""

    __tablename__ = "import_file"
    import_id: Mapped[int] = mapped_column(ForeignKey("import.id"), primary_key=True)
    data: Mapped[bytes]


class RunCorrection(Base):
    """Which approved corrections a run learns from or, held out, is compared by; chosen when it first begins."""

    __tablename__ = "run_correction"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    correction_id: Mapped[int] = mapped_column(
        ForeignKey("correction.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Artifact(Base):
    """What is computed about a version besides its training: `kind` is one of `webapp.worker.artifacts.ARTIFACTS`.

    A row comes with the first attempt; `fraction` is 1 once the `result` is there, in that kind's own coding.
    """

    __tablename__ = "computation"
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[float] = mapped_column(default=time.time)
    fraction: Mapped[float] = mapped_column(default=0.0)
    result: Mapped[bytes | None]
    error: Mapped[str | None]


class Installation(Base):
    """What all processes of an installation share on whichever machine they run; one row."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(primary_key=True)
    secret_key: Mapped[str]


class Administrator(Base):
    """The administrator's password, hashed; one row."""

    __tablename__ = "administrator"
    id: Mapped[int] = mapped_column(primary_key=True)
    password_hash: Mapped[str]


class AdminSession(Base):
    """A signed-in browser, by the digest of its cookie's secret. Gone at sign-out: a copied cookie is worthless."""

    __tablename__ = "admin_session"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]
    seen_at: Mapped[float]


class SignInAttempt(Base):
    """A failed or undecided sign-in, counted across all processes."""

    __tablename__ = "sign_in_attempt"
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(index=True)
    at: Mapped[float]


def coded(code: str, **numbers: Any) -> str:
    """A code with its numbers as a column of text keeps it (webapp/presentation/wording.py makes sentences of them)."""
    return json.dumps({"code": code, **numbers})


def champion_id(session: Session) -> int | None:
    """The version that answers now: the one promoted last."""
    return session.scalar(select(Promotion.version_id).order_by(Promotion.id.desc()).limit(1))


def champion_of(session: Session) -> Version | None:
    """The same, as its row."""
    return session.get(Version, champion_id(session) or 0)


