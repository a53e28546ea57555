"""The public API: train, transfer, attach, share, evaluate and compare modules of models that are in memory.

Its names are exported by `abi` itself. It writes nothing twice: models are admitted, states are stored, modules are
trained and fitted, and verdicts are judged by the wings below, as the rules of the DAG do it.
"""
