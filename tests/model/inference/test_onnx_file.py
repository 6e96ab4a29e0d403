"""ONNX export: onnxruntime computes what we do; without the package the command says how to get it."""

import json
import sys

import numpy as np
import pytest

import model.inference
from model.cli import main
from model.data import mnist
from model.inference.classifier import SHIPPED, Classifier
from model.inference.mlp import NumpyMLP
from model.inference.weights import layers


def test_onnx_file_gives_the_same_logits(tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out = tmp_path / "shipped.onnx"
    assert main(["export", str(SHIPPED), "--onnx", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    images = mnist.read_test()[0][:2_000]
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"image": images[:, None].astype(np.float32) / 255})
    ours = NumpyMLP(layers(SHIPPED.read_bytes())[0]).forward_batch(images)
    assert found.shape == ours.shape and np.abs(found - ours).max() < 1e-4
    assert np.array_equal(found.argmax(1), ours.argmax(1))
    told = session.get_modelmeta().custom_metadata_map
    _, card = Classifier(SHIPPED.read_bytes, "").warm()
    assert float(told["refuse_above"]) == card.calibration.refuse_above
    assert json.loads(told["labels"])[:11] == [*"0123456789", "dot"] and json.loads(told["card"])["seed"] == card.seed


def test_export_without_the_package_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "model.inference.onnx_file", raising=False)
    monkeypatch.delattr(model.inference, "onnx_file", raising=False)
    assert main(["export", str(SHIPPED), "--onnx", str(tmp_path / "x.onnx")]) == 2
    complaint = capsys.readouterr().err
    assert "the package onnx" in complaint and "requirements-extras.txt" in complaint and complaint.count("\n") == 1


def test_export_with_another_module_missing_is_no_matter_of_the_extras(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "model.inference.onnx_file", None)
    monkeypatch.delattr(model.inference, "onnx_file", raising=False)
    with pytest.raises(ModuleNotFoundError, match="onnx_file"):
        main(["export", str(SHIPPED), "--onnx", str(tmp_path / "x.onnx")])
