//! [`Tags`]: which tags a tenant uses, how often, and giving them other names.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::{Progress, Session};
use crate::error::{Error, Result};
use crate::query::{Aggregate, Filter, Find, ListMatch};
use crate::schema::{FieldType, Lifecycle, ObjectRef, ObjectScope, Row, Value};

/// The field that holds the tags of a record, of whatever object.
const FIELD: &str = "tags";

/// How many records a change of a tag writes in one commit.
const BATCH: usize = 500;

/// How often a batch is tried again when others change the same records meanwhile.
const ATTEMPTS: usize = 16;

/// The tags of a tenant. They are written into the records themselves, into the list field `tags`
/// of accounts, contacts, leads, deals, activities and every object of the host that has one.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// # async fn example(session: &Session) -> Result<()> {
/// for tag in session.tags().counts().await? {
///     println!("{}: {} records, {} contacts", tag.tag, tag.total(), tag.of("contact"));
/// }
/// session.tags().rename("vip", "key account", &()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Tags<'a> {
    session: &'a Session,
}

/// How many records have a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TagCount {
    /// The tag; tags that differ in letter case are different tags.
    pub tag: String,
    /// The number of records by object; archived ones count, deleted ones do not.
    pub records: BTreeMap<String, u64>,
}

impl TagCount {
    /// The number of records of all objects.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.records.values().sum()
    }

    /// The number of records of one object.
    #[must_use]
    pub fn of(&self, object: &str) -> u64 {
        self.records.get(object).copied().unwrap_or_default()
    }
}

impl Session {
    /// The tags in use.
    pub const fn tags(&self) -> Tags<'_> {
        Tags { session: self }
    }
}

impl Tags<'_> {
    /// Every tag in use and how many records have it, in the order of the tags. One query for each
    /// object that has tags.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn counts(&self) -> Result<Vec<TagCount>> {
        let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for object in self.objects().await? {
            let by_tag = Aggregate::<()>::new()
                .group_by_name(FIELD)
                .count()
                .with_archived();
            let groups = self
                .session
                .object(object.name())
                .await?
                .aggregate(&by_tag)
                .await?;
            for group in groups {
                if let Some(tag) = group.key(0).as_text() {
                    let records = counts.entry(tag.to_owned()).or_default();
                    records.insert(object.name().to_owned(), group.count(0));
                }
            }
        }
        let counts = counts.into_iter();
        Ok(counts
            .map(|(tag, records)| TagCount { tag, records })
            .collect())
    }

    /// Gives a tag another name in every record that has it, archived ones too; a record that
    /// already has the other keeps it once. Returns how many records were changed.
    ///
    /// The records are changed in commits of a few hundred each, as ordinary, audited changes.
    /// Stopped half-way, the same call goes on where it was.
    ///
    /// # Errors
    /// [`Error::Validation`] at `tags` if the new name is not a tag; what rules of the records say.
    pub async fn rename(&self, from: &str, to: &str, progress: &impl Progress) -> Result<u64> {
        self.replace(from, Some(to), progress).await
    }

    /// Takes a tag off every record that has it, archived ones too; see [`rename`](Self::rename).
    ///
    /// # Errors
    /// What rules of the records say.
    pub async fn remove(&self, tag: &str, progress: &impl Progress) -> Result<u64> {
        self.replace(tag, None, progress).await
    }

    async fn replace(&self, from: &str, to: Option<&str>, progress: &impl Progress) -> Result<u64> {
        let to = match to.map(checked) {
            Some(to) => Some(to?),
            None => None,
        };
        let mut changed = 0;
        // As it is stored; what cannot be stored no record has.
        let from = match checked(from) {
            Ok(from) if to.as_ref() != Some(&from) => from,
            _ => return Ok(changed),
        };
        let from = from.as_str();
        for object in self.objects().await? {
            let mut conflicts = 0;
            loop {
                let rows = self.tagged(&object, from).await?;
                if rows.is_empty() {
                    break;
                }
                match self.write(&rows, from, to.as_deref()).await {
                    Ok(()) => {
                        changed += rows.len() as u64;
                        conflicts = 0;
                    }
                    // Somebody else changed one of the records: read them again.
                    Err(Error::Conflict { .. }) if conflicts < ATTEMPTS => conflicts += 1,
                    Err(error) => return Err(error),
                }
                if progress.report(changed, None).is_break() {
                    return Ok(changed);
                }
            }
        }
        Ok(changed)
    }

    async fn tagged(&self, object: &ObjectRef, tag: &str) -> Result<Vec<Row>> {
        let has_tag = Filter::List {
            field: FIELD.into(),
            op: ListMatch::Any,
            values: vec![tag.into()],
        };
        let find = Find::<()>::new()
            .filter_by_name(has_tag)
            .with_archived()
            .limit(BATCH);
        Ok(self
            .session
            .object(object.name())
            .await?
            .find(&find)
            .await?
            .items)
    }

    async fn write(&self, rows: &[Row], from: &str, to: Option<&str>) -> Result<()> {
        let mut work = self.session.begin();
        for row in rows {
            let Some(index) = row.object().field_index(FIELD) else {
                continue;
            };
            if let Value::List(tags) = row.value(index).into_owned() {
                let tags = Value::List(replaced(tags, from, to));
                work.set_row_values(row, vec![(index, tags)]).await?;
            }
        }
        work.commit().await?;
        Ok(())
    }

    async fn objects(&self) -> Result<Vec<ObjectRef>> {
        let objects = self.session.registry().await?.objects();
        let is_tagged = |object: &&ObjectRef| {
            object.scope() == ObjectScope::Tenant
                && object.lifecycle() == Lifecycle::Full
                && object
                    .field(FIELD)
                    .is_some_and(|field| field.field_type == FieldType::List)
        };
        Ok(objects.values().filter(is_tagged).cloned().collect())
    }
}

/// A tag as it is stored.
fn checked(tag: &str) -> Result<String> {
    let list = Value::List(vec![tag.to_owned()]);
    match FieldType::List
        .coerce(list)
        .map_err(|fault| fault.at(FIELD))?
    {
        Value::List(mut tags) if tags.len() == 1 => Ok(tags.remove(0)),
        _ => Err(crate::error::FieldError::new(
            FIELD,
            crate::error::codes::BLANK,
            "must not be blank",
        )
        .into()),
    }
}

/// The tags with one of them replaced or taken away, each once, in the same order.
fn replaced(tags: Vec<String>, from: &str, to: Option<&str>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags {
        let tag = match to {
            _ if tag != from => tag,
            Some(to) => to.to_owned(),
            None => continue,
        };
        if !kept.contains(&tag) {
            kept.push(tag);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_tag_takes_the_place_of_another() {
        let before = tags(&["a", "b", "c"]);
        assert_eq!(
            replaced(before.clone(), "b", Some("x")),
            tags(&["a", "x", "c"])
        );
        assert_eq!(replaced(before.clone(), "c", Some("a")), tags(&["a", "b"]));
        assert_eq!(replaced(before.clone(), "a", Some("c")), tags(&["c", "b"]));
        assert_eq!(replaced(before.clone(), "B", Some("x")), before);
        assert_eq!(replaced(before, "a", None), tags(&["b", "c"]));
    }

    #[test]
    fn a_tag_is_checked_like_any_entry() {
        assert_eq!(checked("  key account ").unwrap(), "key account");
        assert_eq!(checked("   ").unwrap_err().code(), "validation");
        assert!(checked(&"x".repeat(101)).is_err());
    }
}
