//! The list of cases: the one place that names them all.

use super::{BoxFuture, Failure, Harness};

/// One case of the suite.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Case {
    /// The group, such as `unique`.
    pub group: &'static str,
    /// The name, which begins with the group's: `unique_swap`.
    pub name: &'static str,
    run: fn(Harness) -> BoxFuture<'static, Result<(), Failure>>,
}

impl Case {
    /// Runs the case on fresh tenants of the harness's storage.
    ///
    /// # Errors
    /// What the storage got wrong.
    pub async fn run(&self, harness: Harness) -> Result<(), Failure> {
        (self.run)(harness)
            .await
            .map_err(|failure| failure.of(self.name))
    }
}

/// The case with this name.
#[must_use]
pub fn case(name: &str) -> Option<&'static Case> {
    cases().iter().find(|case| case.name == name)
}

/// Hands the names of all cases, by group and module, to [`__conformance_each`].
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    ($($head:tt)*) => {
        $crate::__conformance_each! { ($($head)*)
            crud in kinds {
                crud_every_field
                crud_no_values
                crud_integers
                crud_decimals
                crud_days_and_moments
                crud_texts
                crud_value_types
                crud_lists
                crud_json
                crud_groups
            }
            crud in crud {
                crud_typed_rows
                crud_get_by_ids
                crud_same_id_in_two_objects
                crud_actors_and_stamps
                crud_update
                crud_archive_delete_restore
                crud_purge
                crud_mixed_commit
                crud_large_commit
                crud_empty_commit
                crud_log
                crud_documents_are_not_merged
            }
            versions in versions {
                versions_stale_update
                versions_stale_delete
                versions_from_the_future
                versions_missing_row
                versions_double_update
                versions_expectation_holds
                versions_expectation_fails
                versions_expectation_alone
                versions_duplicate_id
                versions_conflict_comes_first
            }
            unique in unique {
                unique_one_field
                unique_case
                unique_case_beyond_ascii
                unique_nulls_never_collide
                unique_several_fields
                unique_live
                unique_deleted_rows_count
                unique_only_if
                unique_within_one_commit
                unique_swap
                unique_taken_over
                unique_over_references
                unique_per_tenant
                unique_over_the_platform
            }
            references in references {
                references_after_unique_keys
                references_missing_target
                references_nulls_and_good_ones
                references_deleted_target
                references_removed_target
                references_target_of_same_commit
                references_target_deleted_in_same_commit
                references_to_itself
                references_unchanged_ones
                references_of_deleted_rows
                references_protect_targets
                references_removed_together
                references_one_left_behind
                references_chain
            }
            guards in guards {
                guards_of_stored_rows
                guards_of_changed_rows
                guards_of_many_rows
            }
            references in deletions {
                references_deletion_beside_live_ones
                references_deletion_beside_plain_ids
                references_deletion_beside_others_rows
                references_deletion_beside_deleted_ones
                references_deletion_with_its_own_changes
                references_deletion_with_new_ones
                references_deletion_of_families
                references_deletion_of_one_of_many
                references_deletion_after_stale_versions
                references_deletion_per_tenant
            }
            filters in filters {
                filters_compare_texts
                filters_compare_integers
                filters_compare_decimals
                filters_compare_booleans
                filters_compare_days
                filters_compare_moments
                filters_compare_ids
                filters_ignore_case
                filters_decimals_of_other_scale
                filters_null
                filters_in
                filters_in_many_values
                filters_between
                filters_text
                filters_text_wildcards
                filters_text_beyond_ascii
                filters_lists
                filters_limit
            }
            filters in custom {
                filters_custom_fields
                filters_custom_texts_and_lists
                filters_custom_references
            }
            sorting in custom {
                sorting_custom_fields
                sorting_custom_fields_together
            }
            aggregates in custom {
                aggregates_custom_groups
                aggregates_custom_numbers
            }
            filters in logic {
                filters_members
                filters_member_days
                filters_and_or
                filters_not
                filters_deep
                filters_has
                filters_has_nested
            }
            filters in leading {
                filters_any
                filters_any_of_one_row
                filters_any_nested
                filters_any_among_their_own_kind
                filters_any_of_deleted_rows
                filters_any_after_changes
                filters_any_in_pages_and_sums
            }
            filters in trees {
                filters_within
                filters_path_to
                filters_trees_of_references
                filters_trees_joined
                filters_trees_of_deleted_rows
                filters_trees_with_circles
                filters_trees_after_moves
                filters_trees_in_pages_and_sums
            }
            sorting in sorting {
                sorting_every_field
                sorting_nulls_are_greatest
                sorting_texts_by_bytes
                sorting_several_keys
                sorting_ties_by_id
                sorting_walk_every_field
                sorting_walk_page_sizes
                sorting_walk_back
                sorting_walk_with_a_filter
                sorting_walk_while_rows_change
                sorting_positions_between_rows
            }
            aggregates in aggregates {
                aggregates_over_nothing
                aggregates_sums
                aggregates_averages
                aggregates_least_and_greatest
                aggregates_with_a_filter
                aggregates_over_related_rows
                aggregates_too_large
            }
            aggregates in grouping {
                aggregates_by_field
                aggregates_by_every_kind
                aggregates_by_several_fields
                aggregates_by_entries_of_lists
            }
            aggregates in calendar {
                aggregates_by_day_of_a_zone
                aggregates_by_calendar_units
                aggregates_moments_by_unit_of_a_zone
            }
            search in search {
                search_words
                search_own_live_records
            }
            tenancy in trees {
                tenancy_trees
            }
            tenancy in leading {
                tenancy_any
            }
            tenancy in tenancy {
                tenancy_get
                tenancy_select
                tenancy_aggregate
                tenancy_write
                tenancy_expectation
                tenancy_reference
                tenancy_has
                tenancy_same_ids
                tenancy_claim
                tenancy_position
                tenancy_commits_stay_apart
                tenancy_platform_objects
                tenancy_platform_scope
            }
            atomicity in atomicity {
                atomicity_one_bad_change
                atomicity_failed_expectation
                atomicity_large_commit
                atomicity_read_your_writes
                atomicity_readers_beside_a_writer
                atomicity_failures_leave_the_store_usable
            }
            concurrency in concurrency {
                concurrency_increments
                concurrency_one_of_many_wins
                concurrency_write_skew
                concurrency_same_unique_value
                concurrency_same_id
                concurrency_reference_and_removal
                concurrency_reference_and_deletion
                concurrency_references_and_deletions
                concurrency_crossing_orders
                concurrency_rows_apart
            }
            claims in claims {
                claims_in_order
                claims_write_rows
                claims_empty
                claims_assign_nothing_else
                claims_by_many_workers
                claims_beside_updates
            }
            feed in feed {
                feed_in_order_of_commits
                feed_goes_on_where_it_was
                feed_of_some_entries
                feed_of_one_tenant
                feed_refusals
                feed_after_removals
                feed_beside_many_writers
                feed_snapshots_stay
                feed_snapshots_beside_many_writers
                feed_snapshot_refusals
            }
            sealed in sealed {
                sealed_rows_come_back
                sealed_values_of_any_form
                sealed_updates
                sealed_updates_in_another_form
                sealed_unique_keys
                sealed_references
                sealed_claims
                sealed_feed
                sealed_anew
                sealed_anew_unless_changed
                sealed_anew_unique_keys
                sealed_anew_per_tenant
                sealed_anew_per_instance
                sealed_anew_beside_readers
                sealed_anew_beside_updates
            }
            sealed in months {
                sealed_entries_are_moved
            }
            months in months {
                months_are_moved
                months_are_removed
                months_are_taken_whole_or_not
                months_of_one_tenant
            }
            instances in instances {
                instances_rows
                instances_same_ids
                instances_of_another_object
                instances_find
                instances_trees
                instances_aggregate
                instances_claim
                instances_unique
                instances_references
                instances_removal
                instances_deletion
                instances_per_tenant
                instances_leave_the_template_empty
            }
            model in model {
                model_random_work
            }
        }
    };
}

/// Makes something of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_each {
    ((cases) $($group:ident in $module:ident { $($case:ident)* })*) => {
        &[$($($crate::storage::conformance::list::Case {
            group: stringify!($group),
            name: stringify!($case),
            run: |harness| {
                Box::pin(async move {
                    $crate::storage::conformance::$module::$case(&harness).await
                })
            },
        },)*)*]
    };
    ((threads $storage:expr) $($group:ident in $module:ident { $($case:ident)* })*) => {
        $($(
            #[test]
            fn $case() {
                $crate::storage::conformance::block_on(async {
                    let storage = ::std::sync::Arc::new($storage);
                    let harness = $crate::storage::conformance::Harness::new(storage);
                    $crate::__conformance_run!($case, harness);
                });
            }
        )*)*
    };
    ((tokio $storage:expr) $($group:ident in $module:ident { $($case:ident)* })*) => {
        $($(
            #[::tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let storage = ::std::sync::Arc::new($storage);
                let harness = $crate::storage::conformance::Harness::new(storage)
                    .spawn_with(|worker| ::std::mem::drop(::tokio::spawn(worker)));
                $crate::__conformance_run!($case, harness);
            }
        )*)*
    };
}

/// Runs one case and fails the test with what it says.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_run {
    ($case:ident, $harness:expr) => {
        match $crate::storage::conformance::case(::std::stringify!($case)) {
            ::std::option::Option::Some(case) => {
                if let ::std::result::Result::Err(failure) = case.run($harness).await {
                    ::std::panic!("{failure}");
                }
            }
            ::std::option::Option::None => ::std::panic!("the suite has no such case"),
        }
    };
}

/// Makes a `#[test]` of every case of the [conformance suite](crate::storage::conformance), each on
/// a storage of its own.
///
/// Takes an expression that makes a fresh storage, or an `async` block that does. With
/// `runtime = tokio,` in front, the tests run on tokio, which the caller must depend on (features
/// `macros` and `rt-multi-thread`); without it they need no runtime, and workers are threads.
///
/// ```
/// # mod tests {
/// use crm_core::storage::conformance::NaiveStorage;
///
/// crm_core::conformance_tests!(NaiveStorage::default());
/// # }
/// ```
#[macro_export]
macro_rules! conformance_tests {
    (runtime = tokio, async $open:block) => {
        $crate::__conformance_list! { tokio async $open.await }
    };
    (runtime = tokio, $storage:expr) => {
        $crate::__conformance_list! { tokio $storage }
    };
    (async $open:block) => {
        $crate::__conformance_list! { threads async $open.await }
    };
    ($storage:expr) => {
        $crate::__conformance_list! { threads $storage }
    };
}

/// Every case, by group.
///
/// ```
/// use crm_core::storage::conformance;
///
/// let names: Vec<&str> = conformance::cases().iter().map(|case| case.name).collect();
/// assert!(names.contains(&"unique_swap"));
/// ```
#[must_use]
pub fn cases() -> &'static [Case] {
    static CASES: &[Case] = __conformance_list!(cases);
    CASES
}
