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


rule check_files:
    """Compare a family that was read with the simulator and the seen families.
    Simulates a few recorded pairs; what differs is a warning of the page."""
    input:
        unpack(lambda w: graph.files_to_check(w.problem, w.family)),
        preflight=paths.warmup(S, "{problem}"),
    output:
        checks=paths.file_checks(S, "{problem}", "{family}"),
    log:
        paths.log(paths.file_checks(S, "{problem}", "{family}")),
    benchmark:
        paths.benchmark(paths.file_checks(S, "{problem}", "{family}"))
    wildcard_constraints:
        problem=leading(graph.families("read")),
    conda:
        "../../envs/sim.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        **named(lambda w: plan.check_files_job(w.problem, w.family), "simulator", "inputs"),
        code=lambda w: graph.code("check_files", w.problem),
    script:
        "../scripts/check_files.py"
