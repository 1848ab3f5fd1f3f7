# Observations, and what was learned -> posterior draws.


rule infer:
    """Answer one piece of one family's observations with posterior draws.
    The whole ensemble is read, for a method may condition on all of it; only the piece is written.
    """
    input:
        unpack(lambda w: graph.needed_to_infer(w.problem, w.method, w.infer, w.seed, w.family)),
        ensemble=paths.ensemble(S, "{problem}", "{family}", "test"),
    output:
        part=paths.part(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}", "{part}"),
    log:
        paths.log(paths.part(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}", "{part}")),
    benchmark:
        paths.benchmark(paths.part(S, "{problem}", "{method}", "{infer}", "{seed}", "{family}", "{part}"))
    wildcard_constraints:
        problem=leading(graph.inferences()),
    conda:
        "../../envs/learn.yaml"
    threads: study.threads
    resources:
        mem_mb=4000,
        runtime=480,
    params:
        job=lambda w: plan.infer_job(w.problem, w.method, w.infer, int(w.seed), w.family, paths.part_number(w.part)),
        code=lambda w: graph.code("infer", w.problem, method=w.method, infer=w.infer),
    script:
        "../scripts/infer.py"
