"""A study whose scale is changed as a mapping: the models themselves are frozen."""

from dataclasses import replace

from abi.plan.scale import Scale
from abi.plan.workflow import Workflow


def rescaled(workflow, change):
    """Return a study with another scale. Args: change: edits the scale, a mapping, in place."""
    content = workflow.scale.plain()
    change(content)
    return Workflow(replace(workflow.config, scale=Scale.model_validate(content)))
