"""The tables of the database. Each change here needs a migration in `migrations/`."""

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
from model.presets import Schedule, canonical

Active = Literal["queued", "running"]
ACTIVE = get_args(Active)
ReviewState = Literal["received", "approved", "refused"]
REVIEW_STATES = get_args(ReviewState)
BIGGEST_ROW_ID = 2**31 - 1
Ended = Literal["finished", "failed", "cancelled", "lost"]
ENDED = get_args(Ended)
RunState = Active | Ended
RemovalKind = Literal["corrections", "version", "run", "old"]
FIRST_NAME = "administrator"
"""Of the administrator whom set-up makes; alone until others are added."""


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
    """One trained model: its weights as safetensors bytes and its card. Immutable until it is removed.

    The row of a removed one stays, since promotions, runs and corrections refer to it, without weights and card.
    """

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
    removed_at: Mapped[float | None]

    @property
    def name(self) -> str:
        return f"v{self.id}"

    @classmethod
    def of(cls, data: bytes, card: ModelCard, source: str, run_id: int | None = None) -> Version:
        """Return a new row with these weights."""
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
    """A change of the version in service: when, by whom or by which run, and why. The last row names the champion."""

    __tablename__ = "promotion"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    from_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # the previous champion
    at: Mapped[float] = mapped_column(default=time.time)
    by: Mapped[str]
    why: Mapped[str]

    @property
    def is_roll_back(self) -> bool:
        return self.why == coded("rolled_back", **{"from": self.from_id})


class Comparison(Base):
    """A challenger measured against the champion of that time.

    `evidence` is `model.evaluation.comparison.Evidence.as_dict()`, or a dict of an earlier release, with sentences.
    """

    __tablename__ = "comparison"
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    champion_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    at: Mapped[float] = mapped_column(default=time.time)
    passed: Mapped[bool]
    evidence: Mapped[dict]


class Run(Base):
    """One training. The row is its only state; a worker owns it by `attempt` and a lease that it renews.

    The row of a removed one stays, without history, so that no other gets its number.
    """

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="retrain")
    state: Mapped[str]  # of ACTIVE or ENDED
    preset: Mapped[str] = mapped_column(PresetName)
    epochs: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    processes: Mapped[int] = mapped_column(default=1, server_default="1")  # of the training group
    batch_size: Mapped[int | None]  # None, as in the next two: the preset's
    learning_rate: Mapped[float | None]
    schedule: Mapped[Schedule | None] = mapped_column(String)
    corrections: Mapped[bool] = mapped_column(default=False, server_default=false())  # learn from the approved ones
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # fine-tuning starts from its weights
    requested_by: Mapped[str]
    request_id: Mapped[str | None]  # of the request that started it, as in the log
    created_at: Mapped[float] = mapped_column(default=time.time)
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    failed_attempts: Mapped[int] = mapped_column("losses", default=0, server_default="0")  # whose process died
    lease_until: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    progress: Mapped[dict] = mapped_column(default=dict)
    history: Mapped[list] = mapped_column(default=list)
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    error: Mapped[str | None]
    announced_at: Mapped[float | None]  # by the webhook
    removed_at: Mapped[float | None]

    __table_args__ = (
        # At most one active run: the database refuses a concurrent second start.
        Index(
            "one_active_run",
            "kind",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )


class Checkpoint(Base):
    """The state of an active run's training after one of its last epochs, from which the next attempt resumes."""

    __tablename__ = "checkpoint"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    at: Mapped[float] = mapped_column(default=time.time)
    data: Mapped[bytes]


class Correction(Base):
    """A drawing with the digit that its author meant, kept with the author's consent.

    `meant` (by the author) and `label` (by the reviewer) are 0 to 9, or NO_DIGIT. `submitter` is a keyed digest of the
    sender's address, `browser` of its browser's token (None if imported or sent to an earlier release). `hand` is the
    browser if the request brought its token, else the submitter; a hand's corrections are all held out or none. One
    nearly identical to an earlier one is its duplicate: reviewed with it, and learnt from once.
    """

    __tablename__ = "correction"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time, index=True)
    submitter: Mapped[str] = mapped_column("source", index=True)
    browser: Mapped[str | None] = mapped_column(index=True)
    hand: Mapped[str | None] = mapped_column(index=True)
    receipt_sha256: Mapped[str] = mapped_column(unique=True)  # of the secret in the receipt's address
    meant: Mapped[int]
    label: Mapped[int]
    digit_image: Mapped[bytes]  # uint8 (28, 28)
    picture: Mapped[bytes] = mapped_column(deferred=True)  # a PNG that `corrections.picture` encoded
    answered: Mapped[dict]  # verdict, digits, reason, top, not_a_digit, as POST /predict answers
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))  # which answered; None if imported
    held_out: Mapped[bool]  # never learnt from, only used to compare versions
    state: Mapped[str] = mapped_column(default="received")  # of REVIEW_STATES
    reason: Mapped[str | None]  # why it was refused
    decided_at: Mapped[float] = mapped_column(default=0.0, server_default="0")  # when a reviewer last changed it
    duplicate_of: Mapped[int | None] = mapped_column("twin_of", ForeignKey("correction.id"), index=True)
    suspicion: Mapped[float | None]  # 0 to 1; None until it is computed
    doubt: Mapped[dict | None] = mapped_column(JSON(none_as_null=True))  # the figures behind the suspicion

    @classmethod
    def firsts(cls, state: str) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions of corrections in a state that are not duplicates."""
        return cls.state == state, cls.duplicate_of.is_(None)

    __table_args__ = (
        # Covers the pages of the review and their counts.
        Index("ix_correction_review", "state", "twin_of", "decided_at", "id"),
        # A worker looks for corrections with unchecked labels every few seconds.
        Index("ix_correction_unjudged", "state", "suspicion"),
        # Ids are never reused: a decision about a deleted correction must not apply to the next one sent.
        {"sqlite_autoincrement": True},
    )


class Review(Base):
    """One decision about one correction, with the values before it; decisions taken together share a `batch`."""

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
    """The import of a file of digits as corrections. The row is its only state; a worker owns it by `attempt` and
    renews its lease by writing the progress."""

    __tablename__ = "import"
    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[float] = mapped_column(default=time.time)
    updated_at: Mapped[float] = mapped_column(default=time.time)
    requested_by: Mapped[str]
    request_id: Mapped[str | None]  # of the request that started it, as in the log
    state: Mapped[str]  # of ACTIVE, "finished" or "failed"
    name: Mapped[str]  # of the file, made printable
    sha256: Mapped[str]
    digits: Mapped[int]  # in the file
    fraction: Mapped[float] = mapped_column(default=0.0)
    done: Mapped[int] = mapped_column(default=0)  # digits processed: stored, or present before
    added: Mapped[int] = mapped_column(default=0)  # digits stored
    attempt: Mapped[int] = mapped_column(default=0)
    failed_attempts: Mapped[int] = mapped_column("losses", default=0)  # whose process died
    error: Mapped[str | None]


class ImportFile(Base):
    """The file of an active import, apart from the row of the import, which is written each second."""

    __tablename__ = "import_file"
    import_id: Mapped[int] = mapped_column(ForeignKey("import.id"), primary_key=True)
    data: Mapped[bytes]


class RunCorrection(Base):
    """An approved correction that a run learns from or, if held out, is compared by; chosen by its first attempt."""

    __tablename__ = "run_correction"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id"), primary_key=True)
    correction_id: Mapped[int] = mapped_column(
        ForeignKey("correction.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Artifact(Base):
    """A result computed about a version after its training: `kind` is a key of `webapp.worker.artifacts.ARTIFACTS`.

    The first attempt adds the row; `fraction` is 1 once the `result` is stored, encoded as its kind defines.
    """

    __tablename__ = "computation"
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    updated_at: Mapped[float] = mapped_column(default=time.time)
    fraction: Mapped[float] = mapped_column(default=0.0)
    result: Mapped[bytes | None]
    error: Mapped[str | None]


class Removal(Base):
    """What an administrator or the retention removed, in the audit: of what was in it, only how much it was."""

    __tablename__ = "removal"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(default=time.time)
    by: Mapped[str]
    kind: Mapped[RemovalKind] = mapped_column(String)
    number: Mapped[int | None]  # of the version or run; of "old", the days of the retention
    counts: Mapped[dict]  # of removed rows, by the kind of row


class Worker(Base):
    """A worker process, by a random id. It writes the time of its last sign of life, also while it is idle."""

    __tablename__ = "worker"
    id: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[float]
    stopped: Mapped[bool]  # in order; a killed one is only not seen any more


class Installation(Base):
    """The settings that all processes of an installation share, on several machines too; one row."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(primary_key=True)
    secret_key: Mapped[str]


class Administrator(Base):
    """The first administrator, FIRST_NAME, with the hash of the password; one row, with the id 1."""

    __tablename__ = "administrator"
    id: Mapped[int] = mapped_column(primary_key=True)
    password_hash: Mapped[str]


class NamedAdministrator(Base):
    """Another administrator. Not in the table of the first: the release before takes any row there for the only one."""

    __tablename__ = "named_administrator"
    name: Mapped[str] = mapped_column(primary_key=True)
    password_hash: Mapped[str]


class AdminSession(Base):
    """A signed-in browser, by the digest of its cookie's secret. Deleted at sign-out, which voids copied cookies."""

    __tablename__ = "admin_session"
    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    administrator: Mapped[str | None]  # None, as the release before writes: FIRST_NAME
    created_at: Mapped[float]
    seen_at: Mapped[float]


class SignInAttempt(Base):
    """A failed or undecided sign-in, counted across all processes."""

    __tablename__ = "sign_in_attempt"
    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(index=True)
    administrator: Mapped[str | None]  # whose success takes it back; None: nobody's
    at: Mapped[float]


def coded(code: str, **numbers: Any) -> str:
    """Return a code with its numbers as a text column stores it; `webapp.presentation.wording` makes the sentence."""
    return json.dumps({"code": code, **numbers})


def champion_id(session: Session) -> int | None:
    """Return the id of the version in service, the one promoted last; None without a promotion."""
    return session.scalar(select(Promotion.version_id).order_by(Promotion.id.desc()).limit(1))


def champion_of(session: Session) -> Version | None:
    """Return the champion's row; None without a promotion."""
    return session.get(Version, champion_id(session) or 0)
