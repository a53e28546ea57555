"""A study whose scale is changed as a mapping: the models themselves are frozen."""

from dataclasses import replace

from abi.plan.scale import Scale
from abi.plan.workflow import Workflow


def rescaled(study, change):
    """Return a study with another scale. Args: change: edits the scale, a mapping, in place."""
    content = study.scale.plain()
    change(content)
    return Workflow(replace(study.config, scale=Scale.model_validate(content)))
