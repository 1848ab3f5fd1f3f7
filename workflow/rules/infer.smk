# Observations, and what was learned -> states, posterior draws, unfolded truth distributions.


rule condition:
    """Compute the costly conditioning state that all parts of an inference share, such as a prior fitted to the set.
    Resumes when it was interrupted; the state is an artifact."""
    input:
        unpack(lambda w: graph.needed_to_infer(w.problem, w.method, w.infer, w.seed, w.family)),
        ensemble=paths.ensemble(S, "{problem}", "{family}", "test"),
    output:
        state=paths.state(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}"),
    log:
        paths.log(paths.state(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}")),
    benchmark:
        paths.benchmark(paths.state(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}"))
    wildcard_constraints:
        problem=leading(graph.conditioned()),
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        **named(
            lambda w: plan.condition_job(w.problem, w.method, w.infer, int(w.seed), w.family),
            "params",
            "method",
            "infer",
            "inputs",
        ),
        code=lambda w: graph.code("condition", w.problem, methods=w.method, infer=w.infer),
    script:
        "../scripts/condition.py"


rule infer:
    """Sample the posterior of one part of one family's observations.
    Reads the full ensemble, because a method may condition on all of it; writes only the part.
    """
    input:
        unpack(lambda w: graph.needed_to_infer(w.problem, w.method, w.infer, w.seed, w.family)),
        ensemble=paths.ensemble(S, "{problem}", "{family}", "test"),
        state=lambda w: graph.state(w.problem, w.method, w.infer, w.seed, w.family),
    output:
        part=paths.part(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}", "{part}"),
    log:
        paths.log(paths.part(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}", "{part}")),
    benchmark:
        paths.benchmark(paths.part(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}", "{part}"))
    wildcard_constraints:
        problem=leading(graph.sampled()),
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        **named(
            lambda w: plan.infer_job(w.problem, w.method, w.infer, int(w.seed), w.family, paths.part_number(w.part)),
            "params",
            "method",
            "infer",
            "inputs",
        ),
        code=lambda w: graph.code("infer", w.problem, methods=w.method, infer=w.infer),
    script:
        "../scripts/infer.py"


rule unfold:
    """Unfold one family's observations to their truth distribution: a weighted sample with replicas, or bins.
    One HDF5 file."""
    input:
        unpack(lambda w: graph.needed_to_infer(w.problem, w.method, w.infer, w.seed, w.family)),
        ensemble=paths.ensemble(S, "{problem}", "{family}", "test"),
        state=lambda w: graph.state(w.problem, w.method, w.infer, w.seed, w.family),
    output:
        unfolded=paths.unfolded(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}"),
    log:
        paths.log(paths.unfolded(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}")),
    benchmark:
        paths.benchmark(paths.unfolded(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}"))
    wildcard_constraints:
        problem=leading(graph.unfolding()),
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        **named(
            lambda w: plan.unfold_job(w.problem, w.method, w.infer, int(w.seed), w.family),
            "params",
            "method",
            "infer",
            "inputs",
        ),
        code=lambda w: graph.code("unfold", w.problem, methods=w.method, infer=w.infer),
    script:
        "../scripts/unfold.py"
