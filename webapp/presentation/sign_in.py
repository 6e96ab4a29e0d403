"""Sentences and times of the sign-in."""

from __future__ import annotations

from webapp.auth import ATTEMPT_WINDOW_SECONDS


def wrong_password(left: int, asks_name: bool) -> str:
    """Say that the password is wrong, or belongs to another name, and how many attempts are left."""
    wrong = "Name and password do not belong together" if asks_name else "That is not the password"
    if not left:
        return f"{wrong}, and it was the last attempt for now."
    attempts = "1 attempt is" if left == 1 else f"{left} attempts are"
    longest = in_words(ATTEMPT_WINDOW_SECONDS)
    return f"{wrong}. {attempts} left, then up to {longest} to wait."


def in_words(seconds: int) -> str:
    """Return a time with its units written out: "4 minutes 10 seconds"."""
    minutes, seconds = divmod(seconds, 60)
    counted = [(minutes, "minute"), (seconds, "second")]
    return " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in counted if count)
