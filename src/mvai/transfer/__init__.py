"""Transfer (the paper's module G): a mesh sequence and a character make an animation.

A method is one file with a frozen dataclass of settings and two functions:
`register(character, detector, config)` makes a character ready once, and
`drive(registration, sequence, config)` returns its `Animation`. Where `drive` also takes `source`,
it is told how a sequence in no known topology looks in its first frame, registered likewise; a
module that can do without, where that fails, says `READS_ANY_POSE = True`. A new method is one new
file and one line in `METHODS`. What `register` has to find out is shared (`registration`).
"""

from __future__ import annotations

METHODS = {
    "rig": "mvai.transfer.rig:RigTransfer",
    "npt": "mvai.transfer.npt:NptTransfer",
    "sa-pd": "mvai.transfer.sa_pd:SaPdTransfer",
    "npt-detail": "mvai.transfer.npt_detail:NptDetailTransfer",
}
"""Name of each method and where its settings stand; the module is imported when it is chosen."""
