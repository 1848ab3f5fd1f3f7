"""Snakemake's limit of the rate of jobs: its default goes, the user's own stays."""

from snakemake.cli import get_argument_parser
from snakemake.settings.types import MaxJobsPerTimespan, SchedulingSettings

from pullback.study.graph import DEFAULT_RATE, choose_when_jobs_end


def test_snakemake_s_default_is_taken_away():
    limit = get_argument_parser().parse_args([]).max_jobs_per_timespan
    if isinstance(limit, str):
        limit = MaxJobsPerTimespan.parse_choice(limit)
    assert (limit.max_jobs, limit.timespan) == DEFAULT_RATE
    settings = SchedulingSettings(max_jobs_per_timespan=limit)
    choose_when_jobs_end(settings)
    assert settings.max_jobs_per_timespan is None


def test_a_limit_of_the_user_stays():
    settings = SchedulingSettings(max_jobs_per_timespan=MaxJobsPerTimespan(60, "1m"))
    choose_when_jobs_end(settings)
    assert settings.max_jobs_per_timespan.max_jobs == 60


def test_a_process_that_schedules_nothing_is_left_alone():
    choose_when_jobs_end(None)
