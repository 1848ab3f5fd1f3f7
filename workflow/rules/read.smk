# ROOT files (TTree or RNTuple), our own or outside ones -> shards of ensembles (HDF5).


rule read:
    """Read jets through the branch map, select and match them.
    One ROOT file gives one shard."""
    input:
        root=lambda w: graph.root_file(w.problem, w.family, w.split, int(w.shard)),
    output:
        shard=paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"),
    log:
        paths.log(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}")),
    benchmark:
        paths.benchmark(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"))
    wildcard_constraints:
        problem=leading(graph.split_heads("read", "collide")),
    conda:
        "../../envs/hep.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        job=lambda w: plan.read_job(w.problem, w.family, w.split, int(w.shard)),
        code=lambda w: graph.code("read"),
    script:
        "../scripts/read.py"
