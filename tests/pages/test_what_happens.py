"""Tests that each line of the table "What happens when ..." on the operation page is covered by a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "deploy" / "README.md").read_text().partition("\n## What happens when\n")[2].partition("\n## ")[0]
LINES = [line.split("|")[1].strip() for line in TABLE.splitlines() if line.startswith("| ") and line.strip("| -")]

SHOWN = {
    "a bad configuration is saved":
        ("end_to_end/test_process.py", "test_saving_the_file_rotates_a_key_unless_it_is_broken"),
    "a key file changes": ("end_to_end/test_process.py", "test_a_changed_key_file_counts_from_the_next_call"),
    "the provider is down": ("end_to_end/test_calls.py", "test_a_provider_that_cannot_be_reached_is_a_503"),
    "the provider throttles, is overloaded or fails":
        ("faults/test_failover.py", "test_a_fault_before_the_first_event_goes_to_the_second"),
    "a provider fails again and again":
        ("end_to_end/test_provider_health.py", "test_a_flapping_provider_opens_and_closes_as_drawn"),
    "a provider adds or removes models":
        ("end_to_end/test_discovered_models.py", "test_a_model_that_vanishes_is_taken_away"),
    "a provider does not list its models":
        ("end_to_end/test_discovered_models.py", "test_a_failure_keeps_the_list_and_is_logged_once"),
    "the provider is slow or silent":
        ("end_to_end/test_upstream_deadlines.py", "test_silence_between_events_is_an_error_in_the_stream"),
    "a stream is long in coming":
        ("end_to_end/test_upstream_deadlines.py", "test_a_stream_that_begins_late_is_pinged"),
    "the provider cuts a stream": ("end_to_end/test_streams.py", "test_a_stream_cut_at_any_byte_is_an_error"),
    "the provider answers 200 with a page, an error or half a JSON":
        ("end_to_end/test_broken_replies.py", "test_a_body_that_is_no_reply_is_an_error_with_its_words"),
    "the provider repeats the gateway's key":
        ("end_to_end/test_echoed_keys.py", "test_a_key_in_any_reply_reaches_neither_client_nor_record"),
    "the provider counts tokens only at the end of a stream":
        ("plugins/translators/test_first_counts.py", "test_counts_that_come_late_are_an_estimate_first"),
    "the provider says when to try again":
        ("end_to_end/test_waits.py", "test_every_client_learns_when_to_try_again"),
    "the provider refuses the gateway's key":
        ("end_to_end/test_provider_faults.py", "test_a_refused_key_is_shown_until_a_call_is_served"),
    "one of several keys is throttled or refused":
        ("call/test_key_pools.py", "test_a_throttled_or_refused_key_leaves_the_call_to_another"),
    "AWS credentials expire":
        ("upstream/credentials/test_renewal.py", "test_credentials_are_renewed_under_load_without_a_failed_call"),
    "tailscaled is away": ("web/test_readiness.py", "test_tailscaled_that_is_away_counts_where_it_is_needed"),
    "the database is locked or broken":
        ("end_to_end/test_inner_faults.py", "test_a_database_that_breaks_fails_no_call_and_is_repaired"),
    "many large requests come at once":
        ("call/test_admission.py", "test_bodies_share_a_budget_by_their_announced_length"),
    "a provider sends events or replies of many megabytes":
        ("end_to_end/test_reply_budget.py", "test_a_whole_reply_beyond_the_budget_is_a_503"),
    "a provider has all the calls it takes":
        ("end_to_end/test_reply_budget.py", "test_a_provider_has_a_limit_of_calls_in_flight"),
    "thousands of connections do nothing":
        ("web/test_slow_connections.py", "test_five_thousand_connections_leave_a_small_process_alive"),
    "a listener's certificate is renewed":
        ("web/test_tls.py", "test_new_connections_get_a_changed_certificate_and_open_ones_go_on"),
    "the disk is full": ("web/test_readiness.py", "test_records_that_wait_in_memory_are_seen_at_once"),
    "the state folder is removed":
        ("store/test_follower.py", "test_a_removed_state_folder_is_made_again_without_loss"),
    "the process is killed (`kill -9`)":
        ("end_to_end/test_kill.py", "test_a_killed_process_has_each_finished_call_exactly_once"),
    "the machine loses power":
        ("store/test_disk_sync.py", "test_lines_of_a_failed_flush_are_on_the_disk_after_the_next"),
    "the gateway is restarted with SIGUSR2 or `--take-over`":
        ("end_to_end/test_restarts.py", "test_restarts_under_load_fail_lose_and_double_no_call"),
    "the gateway is stopped":
        ("end_to_end/test_process.py", "test_a_stop_lets_a_stream_finish_and_takes_no_new_calls"),
    "a client goes away":
        ("end_to_end/test_streams.py", "test_a_client_that_goes_away_closes_the_provider_within_a_second"),
    "the provider closes a connection":
        ("end_to_end/test_sent_once.py", "test_a_kept_connection_that_is_closed_hides_no_request"),
    "a client does not read its reply":
        ("end_to_end/test_streams.py", "test_a_client_that_stops_reading_ends_its_upstream_too"),
    "the clock is set back":
        ("money/quotas/test_chains.py", "test_a_clock_that_is_set_back_and_put_right_refills_once"),
    "the clock jumps ahead":
        ("end_to_end/test_inner_faults.py", "test_a_clock_that_jumps_ahead_deletes_calls_and_fails_none"),
    "a name cannot be looked up (DNS)":
        ("end_to_end/test_provider_faults.py", "test_a_name_that_does_not_exist_is_named"),
    "the process has no file descriptor left":
        ("end_to_end/test_inner_faults.py", "test_without_a_free_descriptor_calls_fail_in_their_format"),
    "the state folder cannot be written":
        ("end_to_end/test_inner_faults.py", "test_a_state_that_cannot_be_written_refuses_no_call_and_is_reported"),
    "a file of the state is damaged":
        ("end_to_end/test_inner_faults.py", "test_a_damaged_line_of_the_journal_stops_no_start"),
    "the log's reader stops": ("telemetry/test_log.py", "test_an_output_that_blocks_holds_nobody_up_and_losses_are_told"),
}  # fmt: skip
"""The test that covers each line of the table "What happens when ...".

The key is the beginning of the line. The value is the test's file below `tests`, and the test's name.
"""


def test_each_line_has_a_test_and_each_test_a_line():
    assert sorted(LINES) == sorted(SHOWN)


@pytest.mark.parametrize("line", SHOWN)
def test_the_test_of_a_line_is_there(line):
    file, name = SHOWN[line]
    functions = ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
    assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
