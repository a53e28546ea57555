"""The lesson on domain text; the teacher is an oracle (`oracle-kd`) or a reference (a reconstruction)."""

from abi.arms.alignment import read_rotations
from abi.arms.fitting import Nets
from abi.arms.forms import corrections
from abi.arms.gradient import FitData
from abi.base.job import InputFiles
from abi.base.names import BEFORE, HOME, ORACLE
from abi.base.regimes import REGIMES
from abi.models.module import AbiModule
from abi.models.saved import module_of_seed, read_head, read_states, shape
from abi.plan.specs.arms import TaughtArms


class DomainLesson:
    """Fits on the target's own states of domain text."""

    def __init__(self, spec: TaughtArms, inputs: InputFiles) -> None:
        self.regime, self.inputs, self.teacher = spec.regime, inputs, REGIMES[spec.regime].taught_by
        self.states = read_states(inputs["train"], "train")
        self.head, self.config = read_head(inputs["head"], self.states), shape(spec.module, self.states)

    def of(self, seed: int) -> tuple[Nets, FitData]:
        """Return a seed's nets and data."""
        taught = None if self.teacher is None else corrections(self.own(self.teacher, seed), self.states)
        return self.nets(seed), FitData(self.states, self.head, taught)

    def nets(self, seed: int) -> Nets:
        """Return the modules that a seed's arms are made of."""
        if self.regime == "reconstruction":
            return Nets(before=self.own(BEFORE, seed))
        return Nets(
            source=module_of_seed(self.inputs["source"], seed),
            home=self.own(HOME, seed),
            oracle=self.own(ORACLE, seed),
            wrong=module_of_seed(self.inputs["wrong"], seed) if "wrong" in self.inputs.keys() else None,
            rotations=read_rotations(self.inputs["alignment"], seed),
        )

    def own(self, role: str, seed: int) -> AbiModule:
        """Return a module of the target backbone itself."""
        return module_of_seed(self.inputs[role], seed, self.states)


read = DomainLesson
