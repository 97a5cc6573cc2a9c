"""Published accelerators on the same board, the ZCU102, each figure with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

#: How sure a figure is.
MARKS = {
    "r": "read in the work itself or in a comparison table of a later paper",
    "c": "as recalled, unverified, but it agrees with an arithmetic check against figures that were read",
    "u": "as recalled, unverified",
    "d": "derived from the other figures",
    "m": "computed with the closed form of the authors' own cycle model, see below",
}


@dataclass(frozen=True)
class Figure:
    """A number and its mark."""

    value: float
    mark: str

    def __post_init__(self) -> None:
        if self.mark not in MARKS:
            raise ValueError(f"mark must be one of {', '.join(MARKS)}: {self.mark} is not")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One row. None: not available."""

    work: str
    source: str
    model: str
    precision: str
    mhz: Figure
    fps: Figure
    gops: Figure | None = None
    kluts: Figure | None = None
    dsps: Figure | None = None


_VAQF, _AUTO, _HEAT, _PIPE = "arXiv 2201.06618", "arXiv 2208.05163", "HPCA 2023", "arXiv 2407.17879"
DEIT_PEERS = (
    Peer(work="VAQF", source=_VAQF, model="DeiT-base", precision="W1A8", mhz=Figure(150, "c"), fps=Figure(24.8, "c"),
         gops=Figure(861.2, "c"), kluts=Figure(143, "u"), dsps=Figure(1564, "u")),
    Peer(work="VAQF", source=_VAQF, model="DeiT-base", precision="W1A6", mhz=Figure(150, "c"), fps=Figure(31.6, "c"),
         gops=Figure(1096, "c"), dsps=Figure(1564, "c")),
    Peer(work="Auto-ViT-Acc", source=_AUTO, model="DeiT-base", precision="about 8 bits", mhz=Figure(150, "r"), fps=Figure(34.0, "r"),
         gops=Figure(1181.5, "r"), kluts=Figure(185.0, "r"), dsps=Figure(1552, "r")),
    Peer(work="Auto-ViT-Acc", source=_AUTO, model="DeiT-base", precision="fewer bits", mhz=Figure(150, "r"), fps=Figure(56.8, "r"),
         gops=Figure(1974, "d")),
    Peer(work="Auto-ViT-Acc", source=_AUTO, model="DeiT-small", precision="about 8 bits", mhz=Figure(150, "r"), fps=Figure(99.7, "r"),
         gops=Figure(907.8, "r"), kluts=Figure(185.0, "r"), dsps=Figure(1552, "r")),
    Peer(work="HeatViT", source=_HEAT, model="DeiT-base, tokens pruned", precision="W8A8", mhz=Figure(150, "u"), fps=Figure(54.8, "u")),
    Peer(work="HeatViT", source=_HEAT, model="DeiT-small, tokens pruned", precision="W8A8", mhz=Figure(150, "u"), fps=Figure(109.3, "r"),
         dsps=Figure(2066, "u")),
    Peer(work="HeatViT", source=_HEAT, model="DeiT-tiny, tokens pruned", precision="W8A8", mhz=Figure(150, "u"), fps=Figure(271.2, "u")),
    Peer(work="HG-PIPE", source=_PIPE, model="DeiT-tiny", precision="about 4 bits", mhz=Figure(375, "u"), fps=Figure(1579, "u"),
         gops=Figure(3943, "d"), kluts=Figure(212.6, "d")),
)  # fmt: skip
_TRIO, _QUS = "arXiv 2403.20230, 2405.03882", "OpenReview B2DRmwStm9"
EFFICIENTVIT_PEERS = (
    Peer(work="Trio-ViT", source=_TRIO, model="EfficientViT-B1 224, head left out", precision="W8A8", mhz=Figure(200, "r"),
         fps=Figure(798.9, "m"), gops=Figure(780.2, "r"), dsps=Figure(1024, "d")),
    Peer(work="QuS", source=_QUS, model="EfficientViT, size not told", precision="4-bit packing", mhz=Figure(300, "r"),
         fps=Figure(2257, "r")),
)  # fmt: skip
