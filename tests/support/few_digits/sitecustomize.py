"""Python imports this where a process of the installation under test starts.

Its trainer learns from few digits, and its worker does what it is told to and nothing of its own accord, unless
OVERDUE_SECONDS is set.
"""

import os
import sys
from dataclasses import replace


def few() -> None:
    from model.data import splits
    from model.evaluation import comparison, robustness, suite
    from model.presets import PRESETS

    load = splits.load

    def load_few(folder=None):
        data = load(folder)
        return replace(data, train=data.train.first(4_000))

    splits.load = load_few
    PRESETS["fine-tune"] = replace(PRESETS["fine-tune"], batch_size=128)
    suite.HANDS_EACH, suite.CHANGED, suite.LETTERS_EACH, robustness.CURVE_DIGITS, robustness.OTHERS = 1, 30, 1, 5, 100
    # So few digits make it read a few more wrongly: the gate overlooks that, and would not overlook a bad version.
    comparison.DIGITS_LOSS = comparison.ALL_LOSS = comparison.REFUSED_RISE = 0.02
    comparison.RECALL_LEVEL = comparison.KINDS_LEVEL = 1e-4
    comparison.OTHERS_LOSS = 0.2


if sys.orig_argv[-2:] == ["webapp", "worker"]:
    from webapp.worker import executor

    executor.OVERDUE_SECONDS = float(os.environ.get("OVERDUE_SECONDS", 3600))  # before `consumer` imports it
if "webapp.worker.child" in sys.orig_argv:
    few()
    os.nice = lambda increment: 0  # beside other tests, one that gives way to them would hardly get on
