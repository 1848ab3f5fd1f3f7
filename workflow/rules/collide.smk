# Pythia 8 and the detector -> ROOT files, as an experiment would hand them over.


rule collide:
    """Generate collisions, cluster jets, smear them, and write a ROOT file.
    Contains truth and reconstructed jets; the reader matches them."""
    output:
        root=paths.collisions(S, "{problem}", "{family}", "{split}", "{shard}"),
    log:
        paths.log(paths.collisions(S, "{problem}", "{family}", "{split}", "{shard}")),
    wildcard_constraints:
        problem=leading(graph.split_heads("collide")),
    cache: CACHED
    conda:
        "../../envs/hep.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        **named(lambda w: plan.simulate_job(w.problem, w.family, w.split, int(w.shard)), "simulator", "params"),
        code=lambda w: graph.code("collide", collides=w.problem),
    script:
        "../scripts/collide.py"


benchmark_unless_cached(
    workflow, "collide", paths.benchmark(paths.collisions(S, "{problem}", "{family}", "{split}", "{shard}"))
)
