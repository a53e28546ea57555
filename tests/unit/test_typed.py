"""Typed files: what is no figure is not written, and a fault is one sentence."""

import math

import pytest

from abi.base.errors import DataError
from abi.base.manifests.arms import CalibrationManifest
from abi.base.manifests.modules import ModuleManifest
from abi.base.typed import Hardware, Provenance

MADE = Provenance(
    rule="calibrate_arms", spec={}, code="c", inputs={}, versions={}, threads=1, elapsed_s=1.0, peak_memory_mb=1.0,
    hardware=Hardware(),
)  # fmt: skip
ENTRY = {
    "arm": "bias",
    "fit": "kd",
    "draw": 0,
    "seed": 1,
    "steps": 1,
    "n_trainable": 1,
    "frozen_sha256": "a" * 64,
    "folder": "f",
    "sha256": "b" * 64,
}


def manifest(**change):
    whole = CalibrationManifest.model_validate({"arms": [ENTRY], "provenance": MADE, "format": "abi/calibration@1"})
    return whole.model_copy(update={"arms": [whole.arms[0].model_copy(update=change)]})


@pytest.mark.parametrize("figure", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["gain", "final_loss"])
def test_a_figure_that_is_none_is_not_written_as_null(tmp_path, figure, key):
    with pytest.raises(DataError, match="a figure is NaN or infinite; nothing was written"):
        manifest(**{key: figure}).write(tmp_path / "m.json")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read(tmp_path):
    manifest(gain=0.5).write(tmp_path / "m.json")
    assert CalibrationManifest.read(tmp_path / "m.json").arms[0].gain == 0.5


def test_another_shape_is_one_sentence_without_names_of_classes():
    with pytest.raises(DataError) as caught:
        ModuleManifest.of([], "abi_config.json")
    assert (
        str(caught.value)
        == "abi_config.json: the file: Input should be a valid dictionary; delete the file and rebuild it"
    )
