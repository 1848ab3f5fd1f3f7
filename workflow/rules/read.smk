# Outside files, or those that `collide` made -> shards of ensembles (HDF5).


rule read:
    """Read the events of files in the reader's format, and their truth where there is one.
    Most formats give a shard for each file; a SEG-Y file is one event."""
    input:
        unpack(lambda w: graph.files_to_read(w.problem, w.family, w.split, int(w.shard))),
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
        **named(lambda w: plan.read_job(w.problem, w.family, w.split, int(w.shard)), "simulator", "read", "inputs"),
        code=lambda w: graph.code_to_read(w.problem, w.family),
    script:
        "../scripts/read.py"
