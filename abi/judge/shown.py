"""What a result brings along for its pages: checks of the original, tables, curves, matrices, a fitted law."""

from abi.base.typed import Count, Typed


class Check(Typed):
    """A pass rule of the original, applied to what was measured; it decides nothing."""

    id: str
    words: str
    value: float | None
    threshold: float | None
    passed: bool


class TableShown(Typed):
    """A table that a result brings along for its pages."""

    id: str
    title: str
    caption: str
    columns: list[str]
    rows: list[list[str | float | int | None]]


class Series(Typed):
    """One line of a curve."""

    name: str
    x: list[float]
    y: list[float | None]
    lower: list[float | None] | None = None
    upper: list[float | None] | None = None


class Curve(Typed):
    """Lines with bounds where there are any."""

    id: str
    title: str
    x_label: str
    y_label: str
    caption: str
    log_x: bool
    series: list[Series]


class Matrix(Typed):
    """Numbers by row and column, drawn as a heat map."""

    id: str
    title: str
    caption: str
    row_label: str
    column_label: str
    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]


class Law(Typed):
    """The registered fit of a scaling law."""

    formula: str
    n_points: Count
    n_used: Count
    residual_freedom: int
    distinct_responses: Count
    coefficients: dict[str, float] | None
    r2: float | None
    r2_withheld: str | None
    loo_mae_steps: float | None
    loo_mae_steps_of_the_mean: float | None
    gamma_interval: list[float] | None
