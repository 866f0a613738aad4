"""Where requirements on data, features, models, their registry and orchestration are checked.

The ids are those of the product's requirements. A row names the test that holds it, by the
beginning of its name, so that a check which is renamed or dropped is noticed here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

_FEATURES = "transforms/test_feature_windows.py"
_BEHAVIOUR = "transforms/test_behaviour.py"
_EXAMPLES = "transforms/test_examples_and_histories.py"
_MAPPING = "transforms/test_mapping.py"
_CONTRACTS = "transforms/test_contracts_files.py"
_CATALOGUE = "transforms/test_catalogue.py"

_NETWORK = "training/test_transformer_network.py"
_SOCIAL = "training/test_models_social_gnn.py"
_DRIFT = "pipelines/test_drift_stage.py"
_DECIDE = "pipelines/test_decide.py"
_RETRAINING = "end_to_end/test_retraining.py"
_AIRFLOW = "pipelines/test_airflow.py"
_SCHEDULED = "end_to_end/test_airflow.py"
_REGISTRY = "training/test_registry.py"
_CARDS = "pipelines/test_cards.py"

CHECKS: dict[str, tuple[str, str]] = {
    "DE-01": (_MAPPING, "test_values_are_typed_and_faults_are_kept"),
    "DE-02": (_BEHAVIOUR, "test_user_behaviour"),
    "DE-03": (_BEHAVIOUR, "test_user_behaviour"),
    "DE-04": (_CONTRACTS, "test_a_bad_row_is_set_aside"),
    "DE-05": (_BEHAVIOUR, "test_user_behaviour"),
    "DE-06": (_BEHAVIOUR, "test_item_engagement"),
    "DE-08": (_MAPPING, "test_follows_are_unique_and_never_of_oneself"),
    "DE-09": (_EXAMPLES, "test_graph_edges"),
    "DE-10": (_FEATURES, "test_user_features"),
    "DE-11": ("pipelines/test_columns_read.py", "test_the_columns_that_a_model_must_not_see"),
    "DE-12": (_FEATURES, "test_item_features"),
    "DE-13": (_CONTRACTS, "test_a_bad_row_is_set_aside"),
    "DE-14": ("transforms/test_demo_tables.py", "test_vectors_have_their_width"),
    "DE-16": (_BEHAVIOUR, "test_profiles_equal_the_script"),
    "DE-17": (_EXAMPLES, "test_examples_are_those_of_the"),
    "DE-18": (_MAPPING, "test_events_that_lack_what_they_need"),
    "DE-19": (_EXAMPLES, "test_features_of_examples_are_as_of_the_event"),
    "DE-20": (_EXAMPLES, "test_labels"),
    "DE-21": (_EXAMPLES, "test_graph_edges"),
    "DE-23": ("training/test_snapshot.py", "test_positives_are_labels_in_a_half_open_time_range"),
    "DE-24": ("training/test_preprocessing.py", "test_later_rows_use_the_training_rows"),
    "DE-28": ("transforms/test_modalities.py", "test_states_and_coverage"),
    "DE-31": (_CONTRACTS, "test_bad_events_are_set_aside_and_the_rest_goes_on"),
    "DE-32": ("transforms/test_demo_tables.py", "test_intervals_tile_the_period"),
    "DE-33": ("transforms/test_pseudonyms.py", "test_pseudonyms_are_hmac_sha256"),
    "FE-01": (_CATALOGUE, "test_core_tables_hold_exactly_their_features"),
    "FE-02": (_CATALOGUE, "test_core_tables_hold_exactly_their_features"),
    **{f"FE-{n:02}": (_FEATURES, "test_user_features") for n in range(3, 15) if n != 8},
    "FE-08": (_FEATURES, "test_shares_of_event_types_sum_to_one"),
    **{f"FE-{n}": (_FEATURES, "test_item_features") for n in (*range(15, 23), 26)},
    **{f"FE-{n}": (_FEATURES, "test_ratios_sum_to_one_or_zero") for n in (23, 24, 25)},
    "FE-27": (_FEATURES, "test_text_features"),
    "FE-28": (_FEATURES, "test_text_features"),
    "FE-29": ("pipelines/test_columns_read.py", "test_a_stage_reads_declared_columns"),
    **{
        f"FE-{n}": ("transforms/test_modalities.py", "test_states_and_coverage")
        for n in (30, 31, 37)
    },
    "FE-32": ("transforms/test_modalities.py", "test_widths_and_encoders"),
    "FE-36": (_BEHAVIOUR, "test_behaviour_is_strictly_earlier_than_its_moment"),
    "FE-38": (_EXAMPLES, "test_time_of_day_and_week_lie_on_circles"),
    "FE-39": (_EXAMPLES, "test_sequences"),
    "FE-40": (_BEHAVIOUR, "test_profiles_equal_the_script"),
    "FE-49": (_BEHAVIOUR, "test_hashtag_similarity"),
    "FE-50": (_CATALOGUE, "test_names_of_explanations_resolve"),
    **{f"FE-{n}": (_EXAMPLES, "test_graph_edges") for n in (51, 52, 53)},
    "FE-54": ("training/test_models_gnn.py", "test_the_graph_holds_likes_and_weighted_follows"),
    "MO-01": (_NETWORK, "test_media_read_each_other"),
    "MO-02": ("training/test_models_media.py", "test_media_of_another_encoder_are_refused"),
    "MO-03": (_NETWORK, "test_the_full_size_is_that_of_the_documents"),
    "MO-04": (_NETWORK, "test_every_answer_is_learnt"),
    "MO-05": (_NETWORK, "test_order_counts_and_padding_does_not"),
    "MO-06": (_NETWORK, "test_each_part_of_the_moment_counts_and_unknown_is_a_part"),
    "MO-07": ("training/test_models.py", "test_a_preference_vector_is_nearer_to_what_is_liked"),
    "MO-08": (_SOCIAL, "test_the_layers_are_those_of_the"),
    "MO-09": (_SOCIAL, "test_the_first_two_convolutions_alone_are_rectified"),
    "MO-10": (_SOCIAL, "test_follows_count_for_whom_they_bind"),
    "MO-11": (_SOCIAL, "test_scores_are_the_log_odds_of_a_like"),
    "MO-12": (_SOCIAL, "test_any_people_are_scored_with_all_items"),
    "HY-23": ("end_to_end/test_graph_models.py", "test_lists_are_made_by_graph_models"),
    "TR-01": ("training/test_loop.py", "test_the_workers_gradients_sum_to_that_of_the_joined"),
    "TR-03": (_NETWORK, "test_the_loss_is_the_weighted_sum_of_all"),
    "TR-10": ("training/test_models_gnn.py", "test_no_negative_is_an_item_its_user_likes"),
    "TR-12": (
        "training/test_warm_start.py",
        "test_new_interactions_start_lower_and_old_users_lose_nothing",
    ),
    "TR-21": (_SOCIAL, "test_held_out_likes_rank_above_others_by_more_than_popularity"),
    **{f"RG-{n:02}": (_REGISTRY, "test_versions_are_listed_newest_first") for n in (1, 3, 7, 14)},
    "RG-02": (_REGISTRY, "test_a_model_round_trips"),
    "RG-04": (_REGISTRY, "test_states_change_in_order_only"),
    "RG-05": (_REGISTRY, "test_untraceable_models_are_refused"),
    "RG-06": (_REGISTRY, "test_without_a_number_the_champion_is_meant"),
    "RG-08": (_CARDS, "test_an_old_version_judged_on_the_same_data_has_its_stored_metrics"),
    "RG-10": ("training/test_gate.py", "test_reasons"),
    **{f"RG-{n}": (_REGISTRY, "test_verdicts_are_kept_with_their_numbers") for n in (11, 12)},
    "RG-15": (_CARDS, "test_every_judged_version_adds_to_the_history"),
    "RG-17": (_CARDS, "test_what_is_cached_can_be_lost"),
    "RG-18": ("training/test_models.py", "test_save_and_load_give_identical_scores"),
    "RG-19": (_CARDS, "test_the_store_shows_a_run"),
    "RG-20": ("training/test_registry_servers.py", "test_a_server_keeps_models_too"),
    "DM-01": ("training/test_drift_checks.py", "test_quality_drops_by_more_than_the_limit"),
    "DM-02": (_DRIFT, "test_an_episode_is_told_once"),
    "DM-03": (_RETRAINING, "test_a_shift_of_the_data_makes_the_next_interval_train"),
    "DM-04": ("training/test_drift_checks.py", "test_scores_out_of_shape_alert"),
    "DM-05": (_DRIFT, "test_what_is_slow_is_told_once"),
    "DM-06": (_DRIFT, "test_what_is_slow_is_told_once"),
    "DM-07": (_DRIFT, "test_every_served_model_is_watched"),
    "DM-08": ("training/test_drift_workspace.py", "test_an_interval_is_one_snapshot"),
    "DM-09": ("training/test_drift_power.py", "test_quiet_intervals_raise_no_alert"),
    "DM-10": ("training/test_drift.py", "test_the_shifted_columns_are_named"),
    "RO-01": (_AIRFLOW, "test_a_run_owns_six_hours"),
    "RO-02": (_SCHEDULED, "test_each_interval_registers_one_version"),
    "RO-03": (_AIRFLOW, "test_a_run_owns_six_hours"),
    "RO-04": (_RETRAINING, "test_a_model_that_fails_stops_no_other"),
    **{f"RO-{n:02}": (_DECIDE, "test_each_rule_says_why") for n in (5, 6, 7)},
    "RO-08": (_DECIDE, "test_any_rule_is_enough"),
    "RO-09": ("reliability/test_late.py", "test_late_events_come_in_once"),
    "RO-10": (_RETRAINING, "test_nothing_new_trains_nothing"),
    "RO-11": (_AIRFLOW, "test_a_dag_has_the_steps_of_its_spec"),
    "RO-12": (_RETRAINING, "test_a_rejected_model_is_not_due_again_for_its_age_alone"),
    "RO-13": (_RETRAINING, "test_two_triggers_of_an_interval_fit_once"),
    "RO-14": ("reliability/test_two_weeks.py", "test_two_weeks_run_unattended"),
    "RO-15": (_SCHEDULED, "test_a_training_goes_on_whose_ray_worker_is_killed"),
    "RO-17": (_AIRFLOW, "test_a_dag_has_the_steps_of_its_spec"),
    "RO-18": (_SCHEDULED, "test_one_task_cleared_is_done_again_alone"),
}


@pytest.mark.parametrize("requirement", sorted(CHECKS))
def test_the_check_of_a_requirement_exists(requirement):
    file, name = CHECKS[requirement]
    tests = re.findall(r"^ *def (test_\w+)", (TESTS / file).read_text(), re.M)
    assert [one for one in tests if one.startswith(name)], f"{requirement}: {file} has no {name}..."


def test_features_state_requirements_that_are_checked():
    """What the catalogue says a feature meets is met by a test."""
    from transforms.catalogue import entries

    stated = {one for entry in entries() for one in entry.feature.requirements}
    assert stated <= set(CHECKS)
