# Pythia 8 and the detector -> ROOT files, as an experiment would hand them over.


rule collisions:
    """Generate collisions, cluster jets, smear them, and write a ROOT file.
    This is the body of `collide`, which follows; by itself it makes nothing."""
    output:
        root=paths.collisions(S, "{problem}", "{family}", "{split}", "{shard}"),
    log:
        paths.log(paths.collisions(S, "{problem}", "{family}", "{split}", "{shard}")),
    wildcard_constraints:
        problem=leading([]),
    conda:
        "../../envs/hep.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        **named(lambda w: plan.simulate_job(w.problem, w.family, w.split, int(w.shard))),
        code=lambda w: graph.code("collide"),
    script:
        "../scripts/collide.py"


# Truth and reconstructed jets stand side by side; matching is the reader's task. As with shards, the benchmark gives way
# to --cache.
if workflow.workflow_settings.cache is None:

    use rule collisions as collide with:
        benchmark:
            paths.benchmark(paths.collisions(S, "{problem}", "{family}", "{split}", "{shard}"))
        wildcard_constraints:
            problem=leading(graph.split_heads("collide")),

else:

    use rule collisions as collide with:
        wildcard_constraints:
            problem=leading(graph.split_heads("collide")),
        cache: True
