# Metrics, costs, examples and curves -> one page and one table; digests of everything -> the receipt.


rule resolve:
    """Write the study as it runs, with every default filled in, and remove that of its other configs.
    Its name contains the digest of its text, so that the page of another config is never considered up to date."""
    output:
        study=paths.resolved(S, "{digest}"),
    log:
        paths.log(paths.resolved(S, "{digest}")),
    benchmark:
        paths.benchmark(paths.resolved(S, "{digest}"))
    wildcard_constraints:
        digest="[0-9a-f]+",
    # Before any other job: from the first one on, results are no longer those of the config before.
    priority: 100
    localrule: True
    conda:
        "../../envs/learn.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        **named(lambda w: plan.resolved(), "study"),
        code=lambda w: graph.code("resolve"),
    script:
        "../scripts/resolve.py"


rule report:
    """Write the page: one self-contained HTML file that compares all methods.
    And three tables: all metrics of every seed, their means over seeds, and the data of the study's figures."""
    input:
        study=graph.resolved(),
        metrics=graph.metrics(),
        costs=graph.costs(),
        examples=graph.examples(),
        curves=graph.curves(),
        preflights=graph.preflights(),
        files=graph.file_checks(),
        budgets=graph.budgets(),
    output:
        page=report(
            paths.report(S),
            caption="../report/page.rst",
            category="Study",
            labels={"study": S, "result": "page"},
        ),
        table=report(
            paths.table(S),
            caption="../report/table.rst",
            category="Study",
            labels={"study": S, "result": "all metrics"},
        ),
        seeds=report(
            paths.seeds(S),
            caption="../report/seeds.rst",
            category="Study",
            labels={"study": S, "result": "means over seeds"},
        ),
        drawn=report(
            paths.drawn(S),
            caption="../report/drawn.rst",
            category="Study",
            labels={"study": S, "result": "what the figures show"},
        ),
    log:
        paths.log(paths.report(S)),
    benchmark:
        paths.benchmark(paths.report(S))
    localrule: True
    conda:
        "../../envs/evaluate.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        **named(lambda w: plan.report_job(), "study"),
        code=lambda w: graph.code("report"),
    script:
        "../scripts/report.py"


rule receipt:
    """Write the receipt, with which reruns are compared: config, versions, digests of data and models, seeds, device.
    One JSON file."""
    input:
        study=graph.resolved(),
        data=graph.ensembles(),
        models=graph.artifacts(),
    output:
        receipt=report(
            paths.receipt(S),
            caption="../report/receipt.rst",
            category="Study",
            labels={"study": S, "result": "receipt"},
        ),
    log:
        paths.log(paths.receipt(S)),
    benchmark:
        paths.benchmark(paths.receipt(S))
    localrule: True
    conda:
        "../../envs/learn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        **named(lambda w: plan.receipt_job(), "study"),
        code=lambda w: graph.code("receipt"),
        # By content: a checkout gives the file another time and a clone another path.
        lock=file_digest(Path(workflow.source_path("../../envs/requirements.lock"))),
    script:
        "../scripts/receipt.py"
