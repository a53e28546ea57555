"""The claims of a configuration, their result files, and the pages that list them: what those count and rest on."""

import os
from collections.abc import Iterable

from abi.base.errors import ConfigError
from abi.base.files import sha256_file, sha256_json
from abi.base.names import PAGES
from abi.base.regimes import EXPERIMENT, KINDS
from abi.plan import DEFAULT, PRETRAINED
from abi.plan.config import Claim, Config
from abi.plan.kinds.base import Plain
from abi.plan.measured import committed
from abi.plan.specs.experiments import TabulateExperiments
from abi.plan.specs.judge import SimulateStudies, Summarise
from abi.plan.specs.report import TabulateTransfers, WriteCards, WriteReport


class Pages:
    """The claims of one configuration and their pages. Paths are relative to the working directory."""

    def __init__(self, config: Config) -> None:
        self.config, self.scale = config, config.scale
        self.results = f"results/{config.name}"

    def claim(self, claim_id: str) -> Claim:
        """Return a claim, one of several studies, or one about other claims.

        Raises: ConfigError: unknown, with the nearest claim; or one that this scale cannot run.
        """
        claims = self.config.every()
        if claim_id in self.config.pending:
            raise ConfigError(
                f"claim {claim_id!r} is pending: it {self.config.elsewhere(claim_id)}; choose another scale"
            )
        if claim_id not in claims:
            raise self.config.no_claim(claim_id, claims)
        return claims[claim_id]

    def result_file(self, claim_id: str) -> str:
        """Return the path of a claim's result file."""
        return f"{self.results}/{self.claim(claim_id).record.result_file}"

    def result_files(self, claims: Iterable[str]) -> list[str]:
        """Return the result files of some claims."""
        return [self.result_file(claim_id) for claim_id in claims]

    def regimes_of(self, claim_id: str) -> list[str]:
        """Return the claims that are one claim in its several regimes, itself first."""
        return [claim for claim, entry in self.config.claims.items() if claim_id in (claim, entry.of)]

    @property
    def experiments(self) -> list[str]:
        """The experiments of this scale."""
        return [name for name, claim in self.config.studies.items() if claim.kind == EXPERIMENT]

    @property
    def published_sha256(self) -> str:
        """Hash of the published record's figures."""
        return sha256_file(self.config.root / "config" / "record" / "published.json")

    @property
    def record_sha256(self) -> str:
        """Hash of the whole published record, of which the report judges every document."""
        folder = self.config.root / "config" / "record"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return sha256_json([[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files])

    # pages: what they count and show, and what they depend on besides result files

    def listed(self, page: str) -> list[str]:
        """Return the claims a page of `names.PAGES` lists: all of this scale, ladders last, or the headline's."""
        return list(self.config.headline) if page == "headline" else list(self.config.every())

    def page_files(self, page: str) -> list[str]:
        """Return the result files of the claims a page lists."""
        return self.result_files(self.listed(page))

    def page_spec(self, page: str) -> Plain:
        """What a page that counts claims depends on."""
        published = self.config.published()
        counted = [claim_id for claim_id in self.listed(page) if claim_id in published]
        return Summarise(protocol=self.config.protocol, counted=counted, n_claims=len(published)).plain()

    def table_input(self) -> list[str]:
        """Return the result files of the transfers in all their regimes."""
        return self.result_files(name for name, claim in self.config.claims.items() if claim.kind == "transfer")

    def table_spec(self) -> Plain:
        """What the table of transfers depends on."""
        return TabulateTransfers(scale=self.config.name).plain()

    def experiments_spec(self) -> Plain:
        """What the page of all experiments depends on."""
        return TabulateExperiments(scale=self.config.name).plain()

    def experiments_page(self) -> list[str]:
        """Return the page of all experiments, nothing where this scale runs none."""
        return [f"{self.results}/experiments.md"] if self.experiments else []

    def report_spec(self) -> Plain:
        """What the report depends on besides documents."""
        return WriteReport(
            scale=self.config.name,
            description=self.scale.description,
            meaningless=self.scale.meaningless,
            counted=self.config.published(),
            criteria=self.config.protocol.criteria,
            pending={name: claim.title for name, claim in self.config.pending.items()},
            benchmarks=f"{self.results}/benchmarks",
            record_sha256=self.record_sha256,
        ).plain()

    def committed_beside(self) -> list[str]:
        """Return the committed results that the report sets beside its own: of `real` at `tiny`, and the other way."""
        other = {DEFAULT: PRETRAINED, PRETRAINED: DEFAULT}.get(self.config.name)
        return [] if other is None else [os.path.relpath(path) for path in committed(other)]

    def carded(self) -> list[str]:
        """Return the claims that leave modules behind, each with a card for all its regimes."""
        return [name for name, claim in self.config.claims.items() if KINDS[claim.kind].carded and claim.of is None]

    def card_inputs(self) -> list[str]:
        """Return the result files of every regime of the claims that have a card."""
        heads = set(self.carded())
        return self.result_files(name for name, claim in self.config.claims.items() if (claim.of or name) in heads)

    def card_spec(self) -> Plain:
        """What model cards depend on: where modules lie, and which backbones come from the hub."""
        hubs = {name: backbone.hub for name, backbone in self.scale.backbones.items() if backbone.hub is not None}
        return WriteCards(scale=self.config.name, results=self.results, hubs=hubs).plain()

    def simulation_spec(self) -> Plain:
        """What the instrument's own test depends on."""
        return SimulateStudies(protocol=self.config.protocol, seed=0).plain()

    # the last files of a run

    def finals(self, targets: Iterable[str] = ()) -> list[str]:
        """Return the last files of some targets (claims, or a page): those of all claims, if none is given.

        Raises: ConfigError: a target that is neither.
        """
        found: list[str] = []
        for name in targets or PAGES:
            page = [*self.page_files(name), f"{self.results}/{name}.json"] if name in PAGES else []
            found += page or [self.result_file(name)]
        return list(dict.fromkeys(found if targets else [*found, *self.reports(), *self.cards()]))

    def reports(self) -> list[str]:
        """Return the records of the report and of the table of transfers."""
        return [f"{self.results}/report.json", f"{self.results}/transfer.json"]

    def cards(self) -> list[str]:
        """Return the model cards."""
        return [f"{self.results}/cards/{name}.md" for name in self.carded()]
