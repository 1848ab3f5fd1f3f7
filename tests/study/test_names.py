"""Names of a study are pieces of paths: no two names give one file, or a file and a folder of one name."""

import copy
from itertools import product
from pathlib import PurePath

import pytest
from test_config import BASE

from pullback.study import StudyError, load_study, paths
from pullback.study.base import ENDINGS


def every_path(study):
    """All files of a study with one shard of each split and two parts of each posterior, by what they are of."""
    name, seed = study.study, 0
    for problem, spec in study.problems.items():
        yield problem, paths.warmup(name, problem)
        for family, split in product(spec.families, ("train", "test")):
            yield (problem, family, split), paths.ensemble(name, problem, family, split)
            yield (problem, family, split, 0), paths.shard(name, problem, family, split, 0)
            yield (problem, family, split, "root"), paths.collisions(name, problem, family, split, 0)
        for group in ("priors", "likelihoods", "methods"):
            for learned in getattr(spec, group):
                artifact = paths.artifact(name, group, problem, learned, seed)
                yield (problem, group, learned), artifact
                yield (problem, group, learned, "curves"), paths.curves(artifact)
        for method, settings in spec.methods.items():
            for kind in (paths.metrics, paths.cost, paths.figures):
                yield (problem, method, kind), kind(name, problem, method)
            for infer, family in product(settings.infer, spec.families):
                head = problem, method, infer, seed, family
                for kind in (paths.posterior, paths.state, paths.unfolded):
                    yield (*head, kind), kind(name, *head)
                yield (*head, 0), paths.part(name, *head, 0)


def test_no_two_names_give_one_path():
    dotted = ["a", "a.b", "a.csv", "a.pt", "a.root", "test", "preflight", "seed-0", "a.curves", "part-000", "shard-000"]
    config = copy.deepcopy(BASE)
    toy = config["problems"]["toy"]
    half, oracle = toy["families"]["half"], toy["methods"]["oracle"]
    toy["families"] |= {name: {**half, "params": {"gamma": i / 100}} for i, name in enumerate(dotted)}
    toy["methods"] |= {name: {**oracle, "infer": {key: {} for key in dotted}} for name in dotted}
    toy["priors"] = {key: {"kind": "edm", "network": {"kind": "mlp"}} for key in dotted}
    config["problems"] = dict.fromkeys(dotted[:3], toy)
    found = list(every_path(load_study(config)))
    files = {name for _, name in found}
    # A job's log and benchmark are named after its first file.
    firsts = [name for what, name in found if "curves" not in what and what[-1] not in (paths.cost, paths.figures)]
    firsts = [name for name in firsts if "/states/" not in name and "/unfolded/" not in name]
    for record in (paths.log, paths.benchmark):
        assert len({record(name) for name in firsts}) == len(firsts)
        files |= {record(name) for name in firsts}
    assert len({name for _, name in found}) == len(found)
    folders = {str(folder) for name in files for folder in PurePath(name).parents}
    assert files & folders == set()


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_that_end_as_files_of_results_do_are_refused(ending):
    for group, settings in (
        ("methods", {"kind": "oracle"}),
        ("families", {"role": "unseen", "params": {"gamma": 0.1}}),
        ("priors", {"kind": "edm"}),
    ):
        config = copy.deepcopy(BASE)
        config["problems"]["toy"].setdefault(group, {})[f"cfm.{ending}"] = settings
        with pytest.raises(StudyError) as caught:
            load_study(config)
        assert f"problems.toy.{group}.cfm.{ending}: the name 'cfm.{ending}' ends in" in str(caught.value)
        assert f"such as 'cfm_{ending}'" in str(caught.value)
