# What can be asked for by name: snakemake --cores all ensembles | models | posteriors | metrics | report | all.


rule all:
    """The whole study: the page, its tables and the receipt.
    This is what a run makes when nothing else is asked for."""
    input:
        # Asked for by itself: Snakemake would not miss an intermediate file where the page is there.
        graph.resolved(),
        paths.report(S),
        paths.table(S),
        paths.seeds(S),
        paths.drawn(S),
        paths.receipt(S),
        # They are made anyway; named here, one that was deleted is made again.
        graph.metrics(),
        graph.costs(),
    localrule: True


rule ensembles:
    """Every ensemble of the study, simulated or read.
    Each is an HDF5 index over its shards."""
    input:
        graph.ensembles(),
    localrule: True


rule models:
    """Everything that is trained: methods, diffusion priors and likelihoods.
    With the ensembles that they learn from."""
    input:
        graph.artifacts(),
    localrule: True


rule posteriors:
    """The draws, and the unfolded truth distributions, of every method for every judged family.
    Draws in parts are an HDF5 index over them."""
    input:
        graph.all_posteriors(),
    localrule: True


rule metrics:
    """The tidy table and the cost of every method.
    The page puts them side by side."""
    input:
        graph.metrics(),
        graph.costs(),
    localrule: True
