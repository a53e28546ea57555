"""What an updated backbone depends on that is admitted as a backbone, so that modules can be moved to it."""

from abi.base.typed import Count, Typed


class AdmitUpdate(Typed):
    """Which updated backbone is admitted."""

    update: str
    stage: str
    """`free.1`: the first round, without the stability term"""
    seed: Count
