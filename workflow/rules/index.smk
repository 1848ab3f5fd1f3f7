# Shards -> one ensemble, parts -> one posterior: small files that name their pieces and the pieces' digests.


rule index_ensemble:
    """Join the shards of one split into one ensemble.
    The index holds names, counts and digests; a reader refuses pieces that disagree."""
    input:
        shards=lambda w: graph.shards(w.problem, w.family, w.split),
    output:
        index=paths.ensemble(S, "{problem}", "{family}", "{split}"),
    log:
        paths.log(paths.ensemble(S, "{problem}", "{family}", "{split}")),
    benchmark:
        paths.benchmark(paths.ensemble(S, "{problem}", "{family}", "{split}"))
    wildcard_constraints:
        problem=leading(graph.splits()),
    conda:
        "../../envs/learn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        **named(lambda w: plan.index_job(w.problem, w.family, w.split), "inputs"),
        code=lambda w: graph.code("index_ensemble"),
    script:
        "../scripts/index_ensemble.py"


# A posterior in one part is what `infer` writes; one in several is made here.
ruleorder: index_posterior > infer


rule index_posterior:
    """Join the parts of one inference into one posterior.
    Costs are summed; draws are not copied."""
    input:
        parts=lambda w: graph.parts(w.problem, w.method, w.infer, w.seed, w.family),
    output:
        index=paths.posterior(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}"),
    log:
        paths.log(paths.posterior(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}")),
    benchmark:
        paths.benchmark(paths.posterior(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}"))
    wildcard_constraints:
        problem=leading(graph.inferences_in_parts()),
    conda:
        "../../envs/learn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        **named(lambda w: plan.index_posterior_job(w.problem, w.method, w.infer, int(w.seed), w.family), "inputs"),
        code=lambda w: graph.code("index_posterior"),
    script:
        "../scripts/index_posterior.py"
