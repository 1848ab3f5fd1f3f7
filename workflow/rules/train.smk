# Ensembles of seen families -> trained methods, diffusion priors and likelihoods.
#
# Checkpoints are not declared: a declared output is deleted when a job fails, and a killed training resumes from them.


rule train:
    """Train one method on the seen families of its problem.
    Resumes when it was interrupted; threads come from the study, because they are part of the result.
    """
    input:
        train=lambda w: graph.seen(w.problem, "train"),
        validation=lambda w: graph.seen(w.problem, "validation"),
    output:
        model=paths.model(S, "{problem}", "{method}", "{seed}"),
        curves=paths.curves(paths.model(S, "{problem}", "{method}", "{seed}")),
    log:
        paths.log(paths.model(S, "{problem}", "{method}", "{seed}")),
    benchmark:
        paths.benchmark(paths.model(S, "{problem}", "{method}", "{seed}"))
    wildcard_constraints:
        problem=leading(graph.trained()),
    # The longest jobs, and others wait for them: they start as soon as they can.
    priority: 50
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        **named(lambda w: plan.train_job(w.problem, w.method, int(w.seed))),
        code=lambda w: graph.code("train", w.problem, method=w.method),
    script:
        "../scripts/train.py"


rule prior:
    """Train one diffusion prior on the truth of the seen families.
    It is an artifact of its own, shared by every method that it guides."""
    input:
        train=lambda w: graph.seen(w.problem, "train"),
        validation=lambda w: graph.seen(w.problem, "validation"),
    output:
        model=paths.prior(S, "{problem}", "{prior}", "{seed}"),
        curves=paths.curves(paths.prior(S, "{problem}", "{prior}", "{seed}")),
    log:
        paths.log(paths.prior(S, "{problem}", "{prior}", "{seed}")),
    benchmark:
        paths.benchmark(paths.prior(S, "{problem}", "{prior}", "{seed}"))
    wildcard_constraints:
        problem=leading(graph.priors()),
    # The longest jobs, and others wait for them: they start as soon as they can.
    priority: 50
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        **named(lambda w: plan.prior_job(w.problem, w.prior, int(w.seed))),
        code=lambda w: graph.code("train", w.problem, prior=w.prior),
    script:
        "../scripts/train.py"


rule likelihood:
    """Train one likelihood p(y|x) on pairs of the seen families, which share it.
    It is an artifact of its own, shared by every inference that is refined with it."""
    input:
        train=lambda w: graph.seen(w.problem, "train"),
        validation=lambda w: graph.seen(w.problem, "validation"),
    output:
        model=paths.likelihood(S, "{problem}", "{likelihood}", "{seed}"),
        curves=paths.curves(paths.likelihood(S, "{problem}", "{likelihood}", "{seed}")),
    log:
        paths.log(paths.likelihood(S, "{problem}", "{likelihood}", "{seed}")),
    benchmark:
        paths.benchmark(paths.likelihood(S, "{problem}", "{likelihood}", "{seed}"))
    wildcard_constraints:
        problem=leading(graph.likelihoods()),
    # The longest jobs, and others wait for them: they start as soon as they can.
    priority: 50
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=1440,
    params:
        **named(lambda w: plan.likelihood_job(w.problem, w.likelihood, int(w.seed))),
        code=lambda w: graph.code("train", w.problem, likelihood=w.likelihood),
    script:
        "../scripts/train.py"
