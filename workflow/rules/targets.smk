# Targets by name: snakemake --cores all ensembles | models | posteriors | metrics | report | all.


rule all:
    """The study: the page, its tables and the receipt.
    The default target."""
    input:
        # A separate input, because Snakemake ignores a missing intermediate file when the page exists.
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


rule uncertainties:
    """The uncertainty budgets of unfolded distributions.
    Of every problem whose `uncertainties` asks for one."""
    input:
        graph.budgets(),
    localrule: True


rule ensembles:
    """Every ensemble of the study, simulated or read.
    Each is an HDF5 index over its shards."""
    input:
        graph.ensembles(),
    localrule: True


rule models:
    """All trained artifacts: methods, diffusion priors and likelihoods.
    With their training ensembles."""
    input:
        graph.artifacts(),
    localrule: True


rule posteriors:
    """The draws, and the unfolded truth distributions, of every method for every evaluated family.
    Draws in parts are an HDF5 index over them."""
    input:
        graph.all_posteriors(),
    localrule: True


rule metrics:
    """The tidy table and the cost of every method.
    The page compares them."""
    input:
        graph.metrics(),
        graph.costs(),
    localrule: True
