"""`mvai convert`: results of other tools."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from mvai.cli.outputs import Body, Outputs, Positional, required, summary
from mvai.cli.stage_options import StageOptions
from mvai.progress import Report


@dataclass(frozen=True)
class Convert:
    """Turn what another tool wrote into an archive of a moving body.

    WHAM, VIBE, 4D-Humans, GVHMR, GEM, TRAM, PromptHMR, SAM 3D Body, Multi-HMR 2, AMASS, BVH, TRC,
    C3D, folders of OBJ or PLY files: told by their content.
    """

    results: Positional[Path]
    """File or folder."""
    outputs: Outputs = field(default_factory=list)
    """Archive to write (.npz)."""
    person: int = 0
    """Whom to take; 0 is the one seen in the most frames."""
    body_model: Body | None = None
    """Another body than the file's: anny poses the shipped one, which needs no file."""
    body_model_path: Path | None = None
    """Folder (or file) of the SMPL family's models, which you have to get from their makers."""
    fps: float | None = None
    """Frames a second, where the file does not say."""

    def run(self, options: StageOptions, report: Report) -> None:
        start = time.perf_counter()
        outputs = required(self.outputs, Path(f"{self.results.stem}_body.npz"))
        from mvai import api

        done = api.import_results(
            self.results, person=self.person, body_model=self.body_model,
            body_model_path=self.body_model_path, fps=self.fps, outputs=outputs, report=report,
        )  # fmt: skip
        print(summary(done, outputs, time.perf_counter() - start))
