//! How the partitions of logs by months are called.

use chrono::NaiveDate;

use super::constraint_name;

/// What the comment on a table begins with to which the months of a log are moved; the log follows.
pub(crate) const ARCHIVE_OF: &str = "archive of ";

/// How many bytes a month adds to the name of its log.
pub(crate) const MONTH_BYTES: usize = "_2026_01".len();

/// The partition that takes the rows of months that have none.
pub(crate) fn default_partition(table: &str) -> String {
    constraint_name(table, &[], "default")
}

/// The name of the partition of a month.
pub(crate) fn month_partition(log: &str, month: NaiveDate) -> String {
    format!("{log}_{}", month.format("%Y_%m"))
}

/// The first day of the month whose partition of a log has this name, if it is one.
pub(crate) fn month_of(log: &str, partition: &str) -> Option<NaiveDate> {
    let digits = partition.strip_prefix(log)?.strip_prefix('_')?;
    let day = NaiveDate::parse_from_str(&format!("{digits}_01"), "%Y_%m_%d").ok()?;
    (month_partition(log, day) == partition).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_months_are_read_as_such() {
        let january = NaiveDate::from_ymd_opt(2026, 1, 1);
        assert_eq!(month_of("calls", "calls_2026_01"), january);
        for other in [
            "calls_default",
            "calls_archive",
            "calls_2026_13",
            "calls_2026_1",
            "call_2026_01",
        ] {
            assert_eq!(month_of("calls", other), None, "{other}");
        }
    }
}
