"""What the first job refuses is a problem of the check."""

from test_config import BASE

from pullback.cli.problems import PROBLEM, _settings
from pullback.study import load_study
from pullback.study.job_params import Plan

OWN = """
from pullback.problems import Field

class Own:
    x = Field.vector("x", ("a",), "1")
    y = Field.vector("y", ("a",), "1")

    def __init__(self, rate=1.0):
        self.rate = rate

    def sample_prior(self, rng, n, params):
        return rng.normal(size=(n, 1))

    def simulate(self, x, rng):
        return x, x[:, 0] > -9

    def preflight(self):
        if self.rate <= 0:
            raise RuntimeError(f"rate: found {self.rate}, wanted above 0")
        return {"rate": self.rate}
"""


def test_an_own_class_refuses_its_settings(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    for rate, said in ((0, ["rate: found 0, wanted above 0"]), (2, [])):
        problem = {
            "kind": "./own.py:Own",
            "simulator": {"rate": rate},
            "families": {"all": {"role": "seen"}},
            "methods": {"random": {"kind": "random-truth"}},
        }
        study = load_study({**BASE, "problems": {"own": problem}}, tmp_path)
        assert [(f.level, f.says) for f in _settings(Plan(study, tmp_path))] == [(PROBLEM, text) for text in said]
