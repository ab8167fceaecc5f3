//! What a definition that is written means for the typed rows of its field.

use crm_core::engine::{UnitOfWork, Write};
use crm_core::error::Result;
use crm_core::query::{Condition, FieldAt, Query};
use crm_core::schema::{Entity, SYSTEM_FIELDS, Value};
use crm_core::value::TextValue as _;
use crm_core::{Id, Record};

use super::form::{IndexState, RowForm};
use crate::CustomField;
use crate::rules::{closed_name, closed_objects};
use crate::uses::object_of;

/// The place of [`CustomField::object`], which is the first field of the struct.
const OBJECT: usize = SYSTEM_FIELDS;

/// Says of a definition how far the rows of its field are: a new field has no values, and so all its
/// rows, unless values stood in documents before it was defined; rows that are kept in another form
/// than before have to be made again.
pub(crate) async fn keep_state(
    work: &UnitOfWork,
    write: &mut Write,
    is_own_object: bool,
) -> Result<()> {
    let Some(after) = write.after::<CustomField>() else {
        return Ok(());
    };
    let (id, after) = (after.id, after.data.clone());
    let before = write.before::<CustomField>();
    let is_restored = before.is_some_and(|before| before.deleted_at.is_some());
    let before = before.map(|before| before.data.clone());
    let new = RowForm::of(&after);
    let is_new = before.is_none() && (new.is_some() || after.is_searched());
    let has_values = is_new && may_have_values(work, id, &after, is_own_object).await?;
    let of_new = match has_values {
        true => IndexState::Building,
        false => IndexState::Ready,
    };
    let searched = match &before {
        _ if !after.is_searched() => IndexState::None,
        None => of_new,
        Some(before) if before.is_searched() && !is_restored => after.search_state,
        Some(_) => IndexState::Building,
    };
    write.edit(|field: &mut CustomField| field.search_state = searched);
    let state = match (before, new) {
        (None, None) => IndexState::None,
        (None, Some(_)) => of_new,
        (Some(before), new) if !is_restored && RowForm::of(&before) == new => return Ok(()),
        (Some(_), Some(_)) => IndexState::Building,
        (Some(before), None) if before.index_state == IndexState::None => IndexState::None,
        (Some(_), None) => IndexState::Removing,
    };
    write.edit(|field: &mut CustomField| field.index_state = state);
    Ok(())
}

/// Of a deleted field, the rows that there are tell of nothing.
pub(crate) fn leave_state(write: &mut Write) {
    write.edit(|field: &mut CustomField| {
        if field.index_state != IndexState::None {
            field.index_state = IndexState::Removing;
        }
        field.search_state = IndexState::None;
    });
}

/// Whether records may have values of a field that is defined now.
///
/// Where it is known that no record has a value but of defined fields, there is none. Where other
/// fields are defined, nobody writes a member that is not, so what is stored is all that
/// there is. An object of the engine without definitions takes any member, also while this is asked.
async fn may_have_values(
    work: &UnitOfWork,
    id: Id<CustomField>,
    field: &CustomField,
    is_own_object: bool,
) -> Result<bool> {
    if closed_objects(work).await?.contains(&closed_name(field)) {
        return Ok(false);
    }
    let name = field.object.as_str();
    if !is_own_object {
        let others = Condition::equals(OBJECT, Value::Text(name.to_owned()));
        let others = others.and(Condition::not_deleted());
        let query = Query::new(CustomField::schema(), others).limit(2);
        // As they are stored: one that is defined in this unit of work keeps nobody from writing.
        let stored = work.session().begin().select(&query).await?;
        if stored.iter().all(|other| other.id() == id.uuid()) {
            return Ok(true);
        }
    }
    let Some(object) = object_of(work, field) else {
        return Ok(true);
    };
    let Some(document) = object.custom_document() else {
        return Ok(true);
    };
    let mut staged = work.staged().iter();
    let is_one_of_many = staged.any(|change| {
        let is_new = change.object() == CustomField::schema() && change.before().is_none();
        let other = change
            .after()
            .filter(|_| is_new && change.id() != id.uuid());
        let other = other.and_then(|row| Record::<CustomField>::from_row(row.clone()));
        other.is_some_and(|other| other.object == field.object)
    });
    let has_value = match is_one_of_many {
        // Records are not searched once for each of them: if there are any, they may have values.
        true => Condition::all(),
        false => Condition::Null {
            field: FieldAt {
                member: Some(field.document_key().into()),
                ..FieldAt::new(document)
            },
            is_null: false,
        },
    };
    let query = Query::new(&object, has_value).limit(1);
    Ok(!work.select(&query).await?.is_empty())
}
