//! Storages that are wrong on purpose, to prove that the suite notices.
//!
//! Each [`Defect`] is a mistake that real backends make: a check left out, a comparison that
//! follows the database's habit instead of the port, a lock given up too early. A
//! [`BrokenStorage`] is right but for its one defect, and must fail a case of the defect's group:
//!
//! ```
//! use std::sync::Arc;
//! use crm_core::storage::conformance::broken::{BrokenStorage, Defect};
//! use crm_core::storage::conformance::{self, Harness};
//!
//! let defect = Defect::UniqueRowByRow;
//! assert_eq!(defect.group(), "unique");
//! let harness = Harness::new(Arc::new(BrokenStorage::new(defect)));
//! let case = conformance::case("unique_swap").expect("a case of the suite");
//! assert!(conformance::block_on(case.run(harness)).is_err());
//! ```

mod check;
mod matching;
mod reading;
mod sealing;
mod store;
mod writing;

pub use store::BrokenStorage;

macro_rules! defects {
    ($($group:literal { $($(#[$doc:meta])* $defect:ident,)* })*) => {
        /// One mistake of a [`BrokenStorage`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Defect {
            $($($(#[$doc])* $defect,)*)*
        }

        impl Defect {
            /// Every defect, by group.
            pub const ALL: &'static [Self] = &[$($(Self::$defect,)*)*];

            /// The group of the suite that notices it.
            #[must_use]
            pub const fn group(self) -> &'static str {
                match self {
                    $($(Self::$defect => $group,)*)*
                }
            }
        }
    };
}

defects! {
    "crud" {
        /// Keeps the milliseconds of a moment.
        KeepsMilliseconds,
        /// Keeps decimals as binary fractions.
        DecimalsAsFloats,
        /// Keeps whole numbers as binary fractions.
        IntegersAsFloats,
        /// Takes an empty list for none.
        EmptyListsAreNull,
        /// Cuts texts to 255 characters.
        CutsLongTexts,
        /// Stores addresses in lower case.
        LowersEmails,
        /// Merges an updated document into the old one.
        MergesDocuments,
        /// Leaves fields as they were that an update empties.
        CannotEmptyFields,
        /// Stores visitors without a name as the system.
        LosesAnonymity,
        /// Leaves the stamp of the last change as it was.
        ForgetsUpdates,
        /// Gives rows back without their Rust type.
        UntypedRows,
        /// Gives rows back in the order of their ids.
        GetsInStorageOrder,
        /// Hides deleted rows from `get`.
        GetHidesDeleted,
        /// Writes the first thousand changes of a commit.
        WritesAThousand,
        /// Keeps the rows of all objects under their ids alone.
        OneTableForAll,
    }
    "versions" {
        /// Lets every update through.
        IgnoresVersionsOfUpdates,
        /// Lets every removal through.
        IgnoresVersionsOfRemovals,
        /// Inserts what an update does not find.
        UpdatesInsert,
        /// Does not look at expectations.
        ForgetsExpectations,
        /// Looks only whether an expected row is there.
        ExpectsAnyVersion,
        /// Lets an insert replace a row.
        InsertsReplace,
        /// Reports a unique key before a stale version.
        ReportsDuplicatesFirst,
    }
    "unique" {
        /// Compares letters as they are.
        UniqueByCase,
        /// Ignores the case of ASCII letters only.
        UniqueByAsciiCase,
        /// Ignores case in every key.
        UniqueWithoutCase,
        /// Counts deleted rows in keys for live ones.
        UniqueCountsDeleted,
        /// Frees the values of deleted rows in every key.
        UniqueFreesDeleted,
        /// Takes two missing values for the same.
        UniqueNullsCollide,
        /// Looks at the first field of a key.
        UniqueByFirstField,
        /// Writes the fields of a key behind each other.
        UniqueByJoinedText,
        /// Forgets under which condition a key counts.
        UniqueWithoutCondition,
        /// Checks row by row, so that two rows cannot swap.
        UniqueRowByRow,
        /// Compares new rows with stored ones only.
        UniqueAgainstStored,
        /// Checks inserts only.
        UniqueOnInsert,
        /// Lets a value be used once in all tenants.
        UniqueOverTenants,
        /// Lets each tenant use a value of the platform once.
        PlatformUniquePerTenant,
        /// Does not name the fields.
        DuplicateWithoutFields,
    }
    "guards" {
        /// Looks at no guard.
        IgnoresGuards,
        /// Asks guards about the rows as they are without the commit.
        GuardsAsStored,
    }
    "references" {
        /// Checks no reference.
        NoReferenceCheck,
        /// Checks references that are required only.
        ChecksRequiredReferences,
        /// Checks the references of inserted rows only.
        ReferencesOnInsert,
        /// Takes a deleted row for a target.
        TargetsMayBeDeleted,
        /// Does not see targets that come with the same commit.
        TargetsMustBeStored,
        /// Does not see that the same commit deletes a target.
        TargetsAsStored,
        /// Checks the references of every written row.
        RechecksUnchanged,
        /// Does not check what a restored row refers to.
        ForgetsRestored,
        /// Removes rows that others refer to.
        NoRemovalCheck,
        /// Protects targets of references that forbid deletion only.
        ProtectsRestrictedOnly,
        /// Does not count deleted rows that refer to a removed one.
        DeletedDoNotRefer,
        /// Removes row by row, so that a family cannot go at once.
        RemovesRowByRow,
        /// Does not look whether anything refers to a deleted row.
        IgnoresUnreferenced,
        /// Looks at rows as they are stored, not as the commit leaves them.
        UnreferencedAsStored,
        /// Looks only at rows that the commit does not write.
        UnreferencedByOthersOnly,
        /// Looks at all fields that lead to the object, asked for or not.
        UnreferencedByAnyField,
        /// Looks at references only, not at fields with ids of records of any object.
        UnreferencedByKeysOnly,
        /// Looks at references and at fields that say that they have ids of records, not at others.
        UnreferencedByLinksOnly,
        /// Counts deleted rows that refer to a deleted one.
        UnreferencedCountsDeleted,
        /// Does not count archived rows that refer to a deleted one.
        UnreferencedSkipsArchived,
        /// Counts rows of every tenant that refer to a deleted one.
        UnreferencedOverTenants,
        /// Looks at the first of the deleted rows.
        UnreferencedLooksOnce,
        /// Names the object that refers, not the one that is referred to.
        UnreferencedNamesReferring,
        /// Looks at what refers to deleted rows before anything else.
        ReportsUnreferencedFirst,
    }
    "filters" {
        /// Takes `not` for unknown where a value is missing, as SQL does.
        ThreeValuedNot,
        /// Finds no row without a value by `ne`, as SQL does.
        NeSkipsNulls,
        /// Searches texts by the case of their letters.
        SearchesByCase,
        /// Ignores the case of ASCII letters only when it searches.
        SearchesByAsciiCase,
        /// Takes `%` and `_` in a searched text for wildcards.
        SearchesByPattern,
        /// Ignores case in every comparison for equality.
        EqualWithoutCase,
        /// Minds case also in fields that ignore it.
        EqualByCase,
        /// Compares texts as a dictionary does.
        ComparesWithoutCase,
        /// Compares decimals as binary fractions.
        ComparesFloats,
        /// Compares moments by the second.
        ComparesSeconds,
        /// Takes every row for no alternative.
        EmptyOrIsTrue,
        /// Takes every row for an empty set of values.
        EmptyInIsTrue,
        /// Looks at the first hundred values of a set.
        CutsSets,
        /// Takes any of the entries for all of them.
        AllOfIsAnyOf,
        /// Takes an empty list for none.
        EmptyListsFulfilNothing,
        /// Follows references to deleted rows.
        HasSeesDeleted,
        /// Does not follow references to archived rows.
        HasSkipsArchived,
        /// Counts deleted rows among those that lead to a row.
        AnySeesDeleted,
        /// Does not count archived rows among those that lead to a row.
        AnySkipsArchived,
        /// Wants each row that leads to a row to fulfil a condition.
        AnyAsEach,
        /// Lets one row fulfil one part of a condition and another row another part.
        AnySplitsConditions,
        /// Looks at rows that lead to a row by whatever reference.
        AnyByAnyReference,
        /// Takes "none that fulfils" for "one that does not fulfil".
        NotAnyAsAnyNot,
        /// Leaves the record out that a part of a tree is seen from.
        TreesWithoutTheirRoot,
        /// Goes one level up or down a tree.
        TreesOfOneLevel,
        /// Goes on behind deleted rows of a tree.
        TreesGoThroughDeleted,
        /// Goes down where it should go up.
        TreesUpsideDown,
        /// Compares members of documents by their text.
        MembersAsTexts,
        /// Takes only a written null for no member.
        MissingMembersAreValues,
        /// Compares custom fields by their text.
        CustomFieldsAsTexts,
        /// Takes members of another kind than their custom field for values.
        IllTypedMembersAreValues,
        /// Gives one row more than asked for.
        OneRowMore,
    }
    "sorting" {
        /// Sorts missing values in front.
        NullsFirst,
        /// Sorts missing values behind in both directions.
        NullsAlwaysLast,
        /// Leaves equal rows as they come.
        NoTieBreak,
        /// Sorts as a dictionary does.
        SortsWithoutCase,
        /// Sorts by the first key only.
        SortsByOneKey,
        /// Sorts as if all keys went the way of the first.
        OneDirection,
        /// Takes the row at a position in once more.
        PositionInclusive,
        /// Drops rows that are equal to a position in the first key.
        PositionDropsTies,
        /// Compares positions as if all keys went the way of the first.
        PositionInOneDirection,
        /// Finds nothing behind a missing value, and no missing value behind others.
        PositionLosesNulls,
        /// Compares positions as binary fractions.
        PositionAsFloat,
        /// Compares positions by the millisecond.
        PositionInMilliseconds,
        /// Sorts by fields of the object's own only.
        SortsOwnFieldsOnly,
        /// Takes custom fields for empty behind a position.
        PositionInOwnFieldsOnly,
    }
    "aggregates" {
        /// Does not round averages.
        AverageUnrounded,
        /// Rounds averages half up.
        AverageHalfUp,
        /// Divides by rows without a value too.
        AverageOverAll,
        /// Sums nothing up to no value.
        SumOfNothingIsNull,
        /// Sums as binary fractions.
        SumsFloats,
        /// Gives what fits where a sum is too large.
        HidesOverflow,
        /// Gives no group where there are no rows.
        NothingHasNoGroup,
        /// Puts rows without a key in front.
        NullKeysFirst,
        /// Leaves rows without a key out.
        NullKeysMissing,
        /// Groups texts in whatever case.
        GroupsWithoutCase,
        /// Groups by the first entry of a list only.
        GroupsByFirstEntry,
        /// Groups by the days of Greenwich.
        DaysInUtc,
        /// Takes one offset for the whole year.
        DaysWithoutSummerTime,
        /// Begins weeks on Sunday.
        WeeksFromSunday,
        /// Counts deleted rows whatever was asked.
        CountsEverything,
        /// Takes custom fields for empty.
        ComputesOwnFieldsOnly,
    }
    "search" {
        /// Names records of every tenant.
        SearchesForeign,
        /// Names deleted records.
        SearchesDeleted,
        /// Finds whole words only.
        SearchesWholeWords,
        /// Names as many records as it finds.
        SearchesWithoutLimit,
    }
    "tenancy" {
        /// Gets rows of every tenant by id.
        GetsForeign,
        /// Selects rows of every tenant.
        SelectsForeign,
        /// Selects rows of every tenant behind an `or` that is not in brackets.
        OrLeaksForeign,
        /// Counts rows of every tenant.
        AggregatesForeign,
        /// Claims rows of every tenant.
        ClaimsForeign,
        /// Follows references into other tenants.
        HasSeesForeign,
        /// Looks at rows of other tenants that lead to a row.
        AnySeesForeign,
        /// Lets rows refer to other tenants' rows.
        RefersToForeign,
        /// Lets a commit rely on other tenants' rows.
        ExpectsForeign,
        /// Writes other tenants' rows.
        WritesForeign,
        /// Says that a row is somebody else's.
        TellsForeignApart,
        /// Lets an id be used once in all tenants.
        IdsOverTenants,
        /// Holds a row back that another tenant's row refers to by its id.
        ForeignRowsRefer,
        /// Shows every tenant all rows of the platform.
        TenantsSeePlatform,
        /// Shows the platform the rows of all tenants.
        PlatformSeesTenants,
    }
    "atomicity" {
        /// Writes the changes in front of a bad one.
        WritesUntilBad,
        /// Checks versions while it writes.
        ChecksVersionsLate,
        /// Shows a commit while it is written.
        ShowsHalves,
        /// Reads what was there before the last commit.
        ReadsBehind,
    }
    "concurrency" {
        /// Gives up the lock between checking and writing.
        ChecksThenWrites,
        /// Checks versions before it takes the lock.
        ChecksVersionsApart,
        /// Checks expectations before it takes the lock.
        ChecksExpectationsApart,
        /// Checks unique keys before it takes the lock.
        ChecksUniqueApart,
        /// Checks ids before it takes the lock.
        ChecksIdsApart,
        /// Checks references before it takes the lock.
        ChecksReferencesApart,
        /// Looks at what refers to deleted rows before it takes the lock.
        ChecksUnreferencedApart,
        /// Takes every commit beside another for a conflict.
        ConflictsWithoutReason,
    }
    "claims" {
        /// Gives up the lock between finding and taking.
        ClaimsWithoutLock,
        /// Takes every row that is free.
        ClaimsWithoutLimit,
        /// Takes the oldest rows.
        ClaimsWithoutOrder,
        /// Leaves the version as it was.
        ClaimsKeepVersions,
        /// Leaves the stamp as it was.
        ClaimsKeepStamps,
        /// Gives rows back as they were.
        ClaimsGiveOldRows,
        /// Empties the fields that are not assigned.
        ClaimsEmptyOthers,
    }
    "feed" {
        /// Gives entries in the order of their ids.
        FeedsByIds,
        /// Takes the number of a commit before its turn comes.
        FeedsWithGaps,
        /// Gives the entry at a position once more.
        FeedsPositionTwice,
        /// Goes on behind the commit of a position, not behind the entry.
        FeedsWholeCommits,
        /// Goes on behind all that is settled, also where a page was full.
        FeedsPastTheLimit,
        /// Goes on from where it was, where no entry fulfils the condition.
        FeedsStandStill,
        /// Gives entries that do not fulfil the condition.
        FeedsUnfiltered,
        /// Gives one entry more than asked for.
        FeedsOneMore,
        /// Gives entries of every tenant.
        FeedsForeign,
        /// Gives entries of objects that have no feed.
        FeedsEverything,
        /// Takes every position for one of its own.
        FeedsFromAnywhere,
        /// Counts anew which entry comes at which place.
        FeedsByCounting,
        /// Gives what was written since a snapshot.
        SelectsSinceSnapshots,
        /// Takes snapshots of what has no feed, and those that are none.
        SelectsAnySnapshot,
    }
    "months" {
        /// Leaves entries where they are that are taken.
        KeepsTaken,
        /// Puts what is moved to an archive behind everything that was written.
        MovesToTheEnd,
        /// Loses what is moved to an archive.
        LosesMoved,
        /// Takes what it finds of the entries that it is to take.
        TakesWhatIsThere,
        /// Takes entries of whatever month.
        TakesAnyMonth,
        /// Takes entries of other tenants.
        TakesForeign,
    }
    "sealed" {
        /// Moves entries without what is sealed of them.
        MovesUnsealed,
        /// Gives rows back without what is sealed of them.
        LosesSealed,
        /// Takes the values of a sealed row for those of its type.
        TypesSealed,
        /// Keeps what was sealed where an update has nothing of it.
        KeepsSealed,
        /// Writes what is sealed of new rows only.
        SealsOnInsert,
        /// Writes the values in which an update says that it differs.
        UpdatesByDifference,
        /// Does not check the unique keys of sealed rows.
        UniqueUnsealed,
        /// Does not check the references of sealed rows.
        ReferencesUnsealed,
        /// Claims rows without what is sealed of them.
        ClaimsLoseSealed,
        /// Gives entries of a feed without what is sealed of them.
        FeedsLoseSealed,
        /// Takes a row that is sealed anew for a change of it.
        ResealsRaiseVersions,
        /// Takes every value of a row that is sealed anew.
        ResealsEverything,
        /// Takes what is sealed of a row, and leaves its values as they were.
        ResealsBytesOnly,
        /// Seals rows anew at whatever version they are.
        ResealsAnyVersion,
        /// Brings rows back that are gone.
        ResealsInsert,
        /// Counts rows that were not sealed anew.
        ResealsCountAll,
        /// Does not check unique keys where it seals anew.
        ResealsUnchecked,
        /// Seals the rows in front of a bad one anew.
        ResealsUntilBad,
        /// Seals rows of other tenants anew.
        ResealsForeign,
        /// Seals rows of other objects over the template anew.
        ResealsSiblings,
        /// Shows rows while they are sealed anew.
        ResealsOneByOne,
        /// Gives up the lock between looking at a row and sealing it anew.
        ResealsWithoutLock,
        /// Gives entries that are sealed anew as if they had just come.
        ResealsMoveEntries,
    }
    "instances" {
        /// Gets rows of every object over the template by id.
        GetsSiblings,
        /// Selects rows of every object over the template.
        SelectsSiblings,
        /// Counts rows of every object over the template.
        AggregatesSiblings,
        /// Claims rows of every object over the template.
        ClaimsSiblings,
        /// Writes rows of every object over the template.
        WritesSiblings,
        /// Follows references to whatever object over the template.
        HasSeesSiblings,
        /// Takes a row of another object over the template for a target.
        RefersToSiblings,
        /// Lets a unique value be used once in all objects over the template.
        UniqueOverSiblings,
        /// Lets an id be used once in all objects over the template.
        IdsOverSiblings,
        /// Gives the template the rows of all objects over it.
        TemplatesHaveRows,
    }
    "model" {
        /// Loses one change in a hundred.
        LosesOneInAHundred,
        /// Finds rows by the value that they were inserted with.
        LeavesOldIndexEntries,
    }
}
