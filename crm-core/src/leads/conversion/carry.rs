//! What leads to a lead, carried over to the records that it becomes.
//!
//! Which records these are is told by the schemas: all whose records can be changed and lead to a
//! lead, the host's own included. The field for the contact is the one called like that for the
//! lead, `contact_id` beside `lead_id`; accounts and deals have theirs in the same way.
//!
//! - A record that may belong to several at once, such as an activity, keeps its lead and belongs to
//!   the contact, account and deal too, where it has none yet.
//! - One that belongs to a single one, such as a consent or a comment, moves to the contact. Where at
//!   most one counts, that of the contact goes on counting; of consents for the same purpose the one
//!   that holds, or was given later.
//! - One that would say of the contact what another says already stays with the lead, and so does one
//!   that its own rules refuse to carry over.

use uuid::Uuid;

use crate::Id;
use crate::accounts::Account;
use crate::contacts::Contact;
use crate::deals::Deal;
use crate::engine::UnitOfWork;
use crate::error::{Faults, Result};
use crate::leads::Lead;
use crate::merging::{BY_MERGE, is_refused, is_taken};
use crate::privacy::{Consent, replaced_consents};
use crate::query::{Condition, Query};
use crate::schema::{AnyRecord, Entity, Lifecycle, ObjectSchema, Row, SYSTEM_FIELDS, Value};

/// What a lead becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) contact: Uuid,
    pub(super) account: Option<Uuid>,
    pub(super) deal: Option<Uuid>,
}

/// Fields of a record with their new values.
type Changes = Vec<(usize, Value)>;

/// The field of an object that leads to `target` as the field at `index` leads to a lead.
fn counterpart(object: &ObjectSchema, index: usize, target: &ObjectSchema) -> Option<usize> {
    let from = object.field_name(index);
    let name = from.replace(Lead::schema().name(), target.name());
    let place = object.field_index(&name).filter(|place| *place != index)?;
    let (to, _) = object.fields().get(place)?.reference()?;
    (to == target.name()).then_some(place)
}

/// The ways in which a record that leads to the lead by the field at `index` can be carried over, the
/// best first.
fn ways(row: &dyn AnyRecord, index: usize, targets: &Targets) -> Vec<Changes> {
    let object = row.object();
    let id = |id: Uuid| Value::Uuid(id);
    if let Some(link) = object.record_links().iter().find(|link| link.id == index) {
        let name = Value::Text(Contact::schema().name().to_owned());
        return vec![vec![(index, id(targets.contact)), (link.object, name)]];
    }
    let Some(contact) = counterpart(object, index, Contact::schema()) else {
        return Vec::new();
    };
    let others = [
        (Account::schema(), targets.account),
        (Deal::schema(), targets.deal),
    ];
    let beside = [(Some(contact), Some(targets.contact))].into_iter();
    let beside = beside.chain(others.map(|(to, id)| (counterpart(object, index, to), id)));
    let added: Changes = beside
        .filter_map(|(place, to)| Some((place?, to?)))
        .filter(|(place, _)| row.value(*place).is_null())
        .map(|(place, to)| (place, id(to)))
        .collect();
    let mut ways = Vec::new();
    if !added.is_empty() {
        ways.push(added);
    }
    if row.value(contact).is_null() {
        ways.push(vec![(index, Value::Null), (contact, id(targets.contact))]);
    }
    ways
}

/// What was carried over, and what gave way to it, as all of it was before.
pub(super) struct Carried {
    pub(super) records: Vec<Row>,
    /// Records of the contact that no longer count, as one of the lead does.
    pub(super) replaced: Vec<Row>,
}

/// Carries everything over, as far as it goes.
pub(super) async fn carry(work: &mut UnitOfWork, lead: Uuid, targets: &Targets) -> Result<Carried> {
    let mut found = Vec::new();
    for link in work.links_to(Lead::schema()).await? {
        // Entries of logs tell of the record that they were written for.
        let is_carried = link.object.lifecycle() == Lifecycle::Full;
        if !is_carried || link.object == *Lead::schema() {
            continue;
        }
        let live = link.to(&[lead]).and(Condition::not_deleted());
        let rows = work.select(&Query::new(&link.object, live)).await?;
        found.extend(rows.into_iter().map(|row| (row, link.field)));
    }
    let mut replaced = Vec::new();
    let consents: Vec<&Row> = found
        .iter()
        .map(|(row, _)| row)
        .filter(|row| row.object() == Consent::schema())
        .collect();
    if !consents.is_empty() {
        replaced = give_way(work, &consents, targets).await?;
    }
    for (row, index) in &found {
        carry_one(work, row, *index, targets).await?;
    }
    Ok(Carried {
        records: found.into_iter().map(|(row, _)| row).collect(),
        replaced,
    })
}

/// Takes from the contact's consents that they count, where one of the lead does instead. Gives them as
/// they were.
async fn give_way(work: &mut UnitOfWork, led: &[&Row], targets: &Targets) -> Result<Vec<Row>> {
    let of_contact = Consent::CONTACT_ID.eq(Id::new(targets.contact));
    let own = work.find_all(of_contact, Vec::new()).await?;
    let own: Vec<Row> = own.into_iter().map(|consent| consent as Row).collect();
    let replaced = replaced_consents(own.iter(), led.iter().copied(), work.now());
    let is_replaced = |row: &Row| replaced.iter().any(|(old, _)| *old == row.id());
    let replaced: Vec<Row> = own.iter().filter(|row| is_replaced(row)).cloned().collect();
    for row in &replaced {
        let replace = |consent: &mut Consent| consent.is_active = false;
        work.update(Id::<Consent>::new(row.id()), &replace).await?;
    }
    Ok(replaced)
}

/// A row that was read in this unit of work, as it is now.
pub(super) fn staged_or(work: &UnitOfWork, row: &Row) -> Option<Row> {
    match work.place(row.object(), row.id()) {
        Some(change) => change.after().cloned(),
        None => Some(row.clone()),
    }
}

async fn carry_one(
    work: &mut UnitOfWork,
    row: &Row,
    index: usize,
    targets: &Targets,
) -> Result<()> {
    // It may have changed with another one, as an occurrence does with its series.
    let Some(row) = staged_or(work, row) else {
        return Ok(());
    };
    for changes in ways(&*row, index, targets) {
        let Some(changes) = settled(work, &row, changes).await? else {
            continue;
        };
        let before = work.savepoint();
        work.set_note(row.id(), Some(BY_MERGE));
        let staged = work.set_row_values(&row, changes).await;
        work.set_note(row.id(), None);
        match staged {
            Ok(_) => {
                work.release(before);
                return Ok(());
            }
            Err(error) => {
                work.roll_back(before);
                if !is_refused(&error) {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// The changes with the flags that the record gives up, as another one counts already; `None` where
/// the record would not be right, or say what another says.
async fn settled(work: &UnitOfWork, row: &Row, mut changes: Changes) -> Result<Option<Changes>> {
    let object = row.object().clone();
    for key in object.unique_keys() {
        if !changes.iter().any(|(index, _)| key.fields.contains(index)) {
            continue;
        }
        let Some(after) = changed(row, &changes) else {
            return Ok(None);
        };
        if !is_taken(work, &after, key).await? {
            continue;
        }
        let flag = key.only_if.filter(|flag| {
            let field = object.fields().get(*flag);
            field.is_some_and(|field| !field.read_only)
        });
        match flag {
            Some(flag) => changes.push((flag, Value::Boolean(false))),
            None => return Ok(None),
        }
    }
    let Some(after) = changed(row, &changes) else {
        return Ok(None);
    };
    let mut faults = Faults::default();
    after.check(&mut faults);
    Ok(faults.is_empty().then_some(changes))
}

fn changed(row: &Row, changes: &Changes) -> Option<Row> {
    let mut values = row.values();
    for (index, value) in changes {
        let place = index.checked_sub(SYSTEM_FIELDS);
        *place.and_then(|place| values.get_mut(place))? = value.clone();
    }
    row.with_values(row.meta(), values).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::activities::{Activity, ActivityType};
    use crate::collaboration::Comment;
    use crate::record::{Actor, Record, Stamp};
    use crate::schema::Meta;
    use crate::value::ApiName;

    use super::*;

    const TARGETS: Targets = Targets {
        contact: Uuid::from_u128(1),
        account: Some(Uuid::from_u128(2)),
        deal: None,
    };

    fn row<E: Entity>(data: E) -> Row {
        let stamp = Stamp {
            at: chrono::DateTime::default(),
            by: Actor::System,
        };
        Arc::new(Record::new(Meta::first(Uuid::from_u128(9), stamp), data))
    }

    fn named(row: &Row, field: &str) -> Vec<Vec<(String, Value)>> {
        let object = row.object().clone();
        let index = object.field_index(field).unwrap();
        let name = |(index, value): (usize, Value)| (object.field_name(index).to_owned(), value);
        let ways = ways(&**row, index, &TARGETS).into_iter();
        ways.map(|changes| changes.into_iter().map(name).collect())
            .collect()
    }

    #[test]
    fn an_activity_keeps_its_lead() {
        let lead = Id::<Lead>::new(Uuid::from_u128(7));
        let user = Id::new(Uuid::from_u128(8));
        let call = row(Activity::new(ActivityType::Call, "Call", lead, user));
        let ways = named(&call, "lead_id");
        let beside = vec![
            ("contact_id".to_owned(), Value::Uuid(TARGETS.contact)),
            ("account_id".to_owned(), Value::Uuid(Uuid::from_u128(2))),
        ];
        assert_eq!(ways.first(), Some(&beside));
    }

    #[test]
    fn what_belongs_to_one_record_moves() {
        let lead = Uuid::from_u128(7);
        let comment = row(Comment::new("lead", lead, "Hello"));
        let moved = vec![
            ("record_id".to_owned(), Value::Uuid(TARGETS.contact)),
            ("object".to_owned(), Value::Text("contact".into())),
        ];
        assert_eq!(named(&comment, "record_id"), [moved]);
        let purpose: ApiName = "marketing_email".parse().unwrap();
        let consent = Consent {
            lead_id: Some(Id::new(lead)),
            ..Consent::new(purpose, chrono::DateTime::<chrono::Utc>::default())
        };
        let ways = named(&row(consent), "lead_id");
        let moved = vec![
            ("lead_id".to_owned(), Value::Null),
            ("contact_id".to_owned(), Value::Uuid(TARGETS.contact)),
        ];
        assert_eq!(ways.last(), Some(&moved));
    }
}
