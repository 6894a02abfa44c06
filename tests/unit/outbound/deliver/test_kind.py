"""What one try brings back says whether the backend may have had the request, and is never taken for an answer by itself."""

from typing import get_args

import pytest

from sidecar.model import OutcomeKind
from sidecar.outbound.deliver.kind import Failure, Result
from sidecar.outbound.retry import RetryPolicy, judge

MEANS = {
    "connect": OutcomeKind.UNREACHABLE,  # nothing of the request reached the backend: no attempt is used
    "tls": OutcomeKind.UNREACHABLE,
    "timeout": OutcomeKind.RETRYABLE,  # it may have: the attempt counts
    "reset": OutcomeKind.RETRYABLE,
    "garbage": OutcomeKind.RETRYABLE,
    "interrupted": OutcomeKind.INTERRUPTED,  # by ourselves
}


@pytest.mark.parametrize("failure", [failure for failure in get_args(Failure) if failure])
def test_every_failure_has_one_meaning(failure):
    """A new one needs a row above."""
    assert judge(RetryPolicy(), Result(failure=failure)).kind is MEANS[failure]


def test_a_result_that_nobody_filled_in_is_no_success():
    """Neither an answer nor a failure: it counts as an answer that did not come."""
    assert judge(RetryPolicy(), Result()).kind is OutcomeKind.RETRYABLE
