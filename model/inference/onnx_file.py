"""Export of weights as an ONNX file. Needs the package onnx, an extra of the requirements."""

from __future__ import annotations

import json

import onnx
from onnx import TensorProto, helper, numpy_helper

from model.inference import weights
from model.task import DIGITS, REASONS, SIDE

OPSET, IR = 17, 8
"""Of 2022: what reads ONNX files today reads these."""


def export(data: bytes) -> bytes:
    """Return the network of weights' bytes as an ONNX model, after every check; raises WeightsError.

    Its input is `image`, float32 (N, 1, 28, 28), its output `logits`, float32 (N, outputs). The metadata say how to
    make the one and to read the other.
    """
    layers, card = weights.layers(data)
    nodes, initializers, last = [helper.make_node("Flatten", ["image"], ["x0"], axis=1)], [], len(layers) - 1
    for i, (weight, bias) in enumerate(layers):
        for name, array in (("weight", weight), ("bias", bias)):
            initializers.append(numpy_helper.from_array(array.astype("float32"), f"layers.{i}.{name}"))
        names = [f"x{i}", f"layers.{i}.weight", f"layers.{i}.bias"]
        nodes.append(helper.make_node("Gemm", names, ["logits" if i == last else f"sum{i}"], transB=1))
        if i < last:
            nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"x{i + 1}"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", card.outputs])
    graph = helper.make_graph(nodes, "inkling", [image], [logits], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    model.producer_name = "Inkling"
    helper.set_model_props(model, _metadata(data, card))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _metadata(data: bytes, card: weights.ModelCard) -> dict[str, str]:
    calibration = card.calibration
    return {
        "input": "ink of a digit image as MNIST's: grey / 255, 0 paper to 1 ink, the digit scaled into 20 x 20 pixels "
        "with its centre of mass in the middle; no mean or deviation is taken off",
        "output": "logits; the softmax of the first ten is each digit's probability given that it is a digit, the sum "
        "of the others in the softmax of all is the probability of no digit",
        "labels": json.dumps([*map(str, range(DIGITS)), *REASONS][: card.outputs]),
        "temperature": "1, since the temperature of the calibration is in the last layer's weights",
        "refuse_above": str(calibration.refuse_above),
        "coverage": str(calibration.coverage),
        "hesitant_mass": str(calibration.hesitant_mass),
        "confident_mass": str(calibration.confident_mass),
        "card": json.dumps(card.as_dict(), sort_keys=True),
        "sha256": weights.digest(data),
    }
