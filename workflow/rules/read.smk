# ROOT files (TTree or RNTuple), our own or outside ones, and outside gathers -> shards of ensembles (HDF5).


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
        **named(lambda w: plan.read_job(w.problem, w.family, w.split, int(w.shard))),
        code=lambda w: graph.code("read"),
    script:
        "../scripts/read.py"


rule read_waves:
    """Read shot gathers, and their velocity models where there is a truth, as events of a problem.
    One OpenFWI or netCDF file gives one shard; a SEG-Y file is one event."""
    input:
        files=lambda w: plan.outside_files(w.problem, w.family, w.split, int(w.shard)),
        models=lambda w: plan.outside_models(w.problem, w.family, w.split, int(w.shard)),
    output:
        shard=paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"),
    log:
        paths.log(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}")),
    benchmark:
        paths.benchmark(paths.shard(S, "{problem}", "{family}", "{split}", "{shard}"))
    wildcard_constraints:
        problem=leading(graph.split_heads("read_waves")),
    conda:
        "../../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        **named(lambda w: plan.read_waves_job(w.problem, w.family, w.split, int(w.shard))),
        code=lambda w: graph.code("read_waves", w.problem),
    script:
        "../scripts/read_waves.py"
