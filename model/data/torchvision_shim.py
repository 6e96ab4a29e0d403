"""Import torchvision's data sets although its compiled operators do not fit the torch beside them.

A registry's torchvision is built for CUDA. Beside a CPU build of torch its operators do not load, and the
import fails where it describes the operator `nms`, which the data sets never use.
"""

from types import ModuleType
from typing import Any

_SYMPTOM = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[Any] = []  # torch forgets a library's schemas when its object is collected


def import_datasets() -> ModuleType:
    """Return the module `torchvision.datasets`; raises what its import raises for any other reason."""
    try:
        import torchvision.datasets
    except RuntimeError as error:
        if _SYMPTOM not in str(error):
            raise
        from torch.library import Library

        _declared.append(Library("torchvision", "DEF"))
        for schema in _SCHEMAS:
            _declared[0].define(schema)
        import torchvision.datasets
    return torchvision.datasets
