"""What a calibration asks of a regime's teacher, and which file has it."""

from importlib import import_module
from typing import Protocol

from abi.arms.data import FitData
from abi.arms.making import Nets
from abi.base.catalogue import REGIMES
from abi.base.job import InputFiles
from abi.models.module import ModuleConfig
from abi.models.states import States
from abi.plan.specs.arms import CalibrateArms


class Teacher(Protocol):
    """What is read once for all seeds of a batch."""

    states: States
    """The target's, which the fits are on or are paired from."""
    config: ModuleConfig
    """Shape of the target's module."""

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets, and what its arms may be fitted with."""


def teacher_of(spec: CalibrateArms, inputs: InputFiles) -> Teacher:
    """Return the teacher of a claim's regime.

    It is imported by the name that the catalogue gives, so that the code digest of one regime's jobs does not cover the
    teacher of another.
    """
    teacher: Teacher = import_module(f"abi.arms.{REGIMES[spec.regime].teacher}").read(spec, inputs)
    return teacher
