//! The search for what is held about a person.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{AddressPlace, Clues, Held, HeldAbout, Tie, quotes};
use crate::EntityRef;
use crate::engine::UnitOfWork;
use crate::error::Result;
use crate::identity::User;
use crate::merging::Merge;
use crate::privacy::Consent;
use crate::query::{Condition, FieldAt, MAX_LIMIT, Query, fold_case};
use crate::schema::{
    Entity, FieldType, Lifecycle, Link, ObjectRef, ObjectScope, OnDelete, Privacy, Registry, Row,
    StorageKind, Value, system,
};

/// Whether records of the object are persons who have rights to their data: those who can give a
/// consent.
#[must_use]
pub fn is_person(object: &str) -> bool {
    targets(Consent::schema()).any(|(_, target, _)| target == object)
}

/// Whether records of the object are the tenant's own people, of whom nothing is erased for another.
fn is_staff(object: &str) -> bool {
    object == User::schema().name()
}

/// The engine's own references of an object: the field, where it leads, and what a deletion does.
fn targets(object: &ObjectRef) -> impl Iterator<Item = (usize, &str, OnDelete)> {
    object.references().iter().filter_map(|index| {
        let (target, on_delete) = object.fields().get(*index)?.reference()?;
        Some((*index, target, on_delete))
    })
}

fn among(field: usize, ids: &[Uuid]) -> Condition {
    Condition::In {
        field: FieldAt::new(field),
        values: ids.iter().copied().map(Value::Uuid).collect(),
    }
}

/// All records that are the same person as the subject, which comes first: the contact that a lead
/// became, and what was merged with either and not taken apart again. Deleted ones too.
///
/// # Errors
/// Those of the storage.
pub async fn persons(work: &UnitOfWork, subject: &EntityRef) -> Result<Vec<EntityRef>> {
    let registry = work.registry().await?;
    let mut known = vec![subject.clone()];
    let mut done = 0;
    while let Some(person) = known.get(done).cloned() {
        done += 1;
        let mut more = Vec::new();
        if let Some(object) = registry.any_object(&person.object) {
            let row = work.row(&object, person.id).await?;
            for (index, target, _) in targets(&object) {
                let id = row.as_ref().and_then(|row| row.value(index).as_uuid());
                if target != person.object && is_person(target) {
                    more.extend(id.map(|id| EntityRef::new(target, id)));
                }
            }
        }
        for (object, index, _) in registry.referring_to(&person.object) {
            if object.name() != person.object && is_person(object.name()) {
                let query = Query::new(&object, among(index, &[person.id]));
                let rows = work.select(&query).await?;
                more.extend(
                    rows.iter()
                        .map(|row| EntityRef::new(object.name(), row.id())),
                );
            }
        }
        more.extend(merged(work, &person).await?);
        for one in more {
            if !known.contains(&one) {
                known.push(one);
            }
        }
    }
    Ok(known)
}

/// What was merged with a record, in either direction, where the merge stands.
async fn merged(work: &UnitOfWork, record: &EntityRef) -> Result<Vec<EntityRef>> {
    let object = Merge::schema();
    let place = |name: &str| object.field_index(name).unwrap_or(usize::MAX);
    let (survivor, loser) = (place("survivor_id"), place("loser_id"));
    let either = Condition::Or(vec![
        among(survivor, &[record.id]),
        among(loser, &[record.id]),
    ]);
    let stands = Condition::Null {
        field: FieldAt::new(place("undone_at")),
        is_null: true,
    };
    let rows = work.select(&Query::new(object, either.and(stands))).await?;
    let rows = rows
        .iter()
        .filter(|row| row.get("object").as_text() == Some(&record.object));
    let ids = rows.flat_map(|row| [row.value(survivor).as_uuid(), row.value(loser).as_uuid()]);
    let others = ids.flatten().filter(|id| *id != record.id);
    Ok(others
        .map(|id| EntityRef::new(&*record.object, id))
        .collect())
}

/// Everything that is held about a person, found by the schema: see the
/// [module](crate::privacy::held). `persons` are those of [`persons`].
///
/// Only names and ids are kept, so the answer is small however much the records hold; the records
/// are read in pages. Where an object keeps ids or documents without an index, all its records are
/// looked at.
///
/// ```
/// # use crm_core::{Session, EntityRef, Id, error::Result, contacts::Contact};
/// use crm_core::privacy::held::{Clues, held_about, persons};
///
/// # async fn example(session: &Session, ada: Id<Contact>) -> Result<()> {
/// let work = session.begin();
/// let persons = persons(&work, &EntityRef::from(ada)).await?;
/// for held in held_about(&work, persons, &Clues::default()).await?.records {
///     println!("{} {}: {}", held.object.label(), held.id, held.tie.explanation());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the storage.
pub async fn held_about(
    work: &UnitOfWork,
    persons: Vec<EntityRef>,
    clues: &Clues,
) -> Result<HeldAbout> {
    let mut search = Search {
        work,
        registry: work.registry().await?,
        except: &clues.except,
        places: &clues.places,
        persons,
        addresses: clues.addresses.clone(),
        found: BTreeMap::new(),
    };
    search.own().await?;
    search.linked().await?;
    for record in &clues.about {
        if let Some(object) = search.registry.any_object(&record.object)
            && work.row(&object, record.id).await?.is_some()
        {
            search.add(&object, record.id, Tie::About, None);
        }
    }
    search.followed(Tie::About).await?;
    search.addressed().await?;
    search.followed(Tie::About).await?;
    search.traced().await?;
    search.quoted().await?;
    let perhaps = search.perhaps().await?;
    let Search {
        persons,
        addresses,
        found,
        ..
    } = search;
    let mut records: Vec<Held> = found.into_values().collect();
    records.sort_by(|a, b| (a.tie, a.object.name(), a.id).cmp(&(b.tie, b.object.name(), b.id)));
    Ok(HeldAbout {
        persons,
        addresses,
        records,
        perhaps,
    })
}

struct Search<'s> {
    work: &'s UnitOfWork,
    registry: Arc<Registry>,
    except: &'s [String],
    places: &'s [AddressPlace],
    persons: Vec<EntityRef>,
    addresses: BTreeSet<String>,
    found: BTreeMap<(String, Uuid), Held>,
}

impl Search<'_> {
    /// Keeps a record; the closest tie counts. Whether it was not known by then.
    fn add(&mut self, object: &ObjectRef, id: Uuid, tie: Tie, by: Option<String>) -> bool {
        let key = (object.name().to_owned(), id);
        if let Some(known) = self.found.get(&key)
            && known.tie <= tie
        {
            return false;
        }
        let object = self.registry.described(object);
        let held = Held {
            object,
            id,
            tie,
            by,
        };
        self.found.insert(key, held).is_none()
    }

    /// The objects that are looked into: not those that the engine keeps in step by itself.
    fn objects(&self) -> Vec<ObjectRef> {
        let objects = self.registry.all_objects();
        let is_searched = |object: &&ObjectRef| {
            !object.is_template()
                && object.lifecycle() != Lifecycle::Derived
                && object.scope() == ObjectScope::Tenant
                && !self.except.iter().any(|name| name == object.name())
        };
        objects.values().filter(is_searched).cloned().collect()
    }

    fn is_searched(&self, object: &ObjectRef) -> bool {
        object.lifecycle() != Lifecycle::Derived
            && !self.except.iter().any(|name| name == object.name())
    }

    /// All rows of a query, in pages, deleted ones too.
    async fn all(&self, object: &ObjectRef, condition: Condition) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut query = Query::new(object, condition).limit(MAX_LIMIT);
        loop {
            let page = self.work.select(&query).await?;
            let last = page.last().map(|row| row.id());
            let is_full = page.len() == MAX_LIMIT;
            rows.extend(page);
            match last.filter(|_| is_full) {
                Some(last) => query.after = Some(vec![Value::Uuid(last)]),
                None => return Ok(rows),
            }
        }
    }

    /// The rows that lead to a record by a field.
    async fn leading(&self, link: &Link, id: Uuid) -> Result<Vec<Row>> {
        match link.custom() {
            Some(_) => self.work.led_by_custom(link, &[id], None).await,
            None => self.all(&link.object, link.to(&[id])).await,
        }
    }

    /// The person's own records, with the addresses in them.
    async fn own(&mut self) -> Result<()> {
        for person in self.persons.clone() {
            let Some(object) = self.registry.any_object(&person.object) else {
                continue;
            };
            if let Some(row) = self.work.row(&object, person.id).await? {
                let described = self.registry.described(&object);
                self.addresses.extend(addresses(&described, &row));
                self.add(&object, person.id, Tie::Person, None);
            }
        }
        Ok(())
    }

    /// What leads to the person.
    async fn linked(&mut self) -> Result<()> {
        for person in self.persons.clone() {
            for link in self.registry.links_to(&person.object) {
                // Another person who refers to this one is somebody else.
                if is_person(link.object.name()) || !self.is_searched(&link.object) {
                    continue;
                }
                let by = link.object.path_at(link.field);
                let tie = match link.on_delete {
                    OnDelete::Cascade => Tie::Part,
                    OnDelete::SetNull | OnDelete::Restrict => Tie::About,
                };
                for row in self.leading(&link, person.id).await? {
                    self.add(&link.object, row.id(), tie, Some(by.clone()));
                    if tie == Tie::About {
                        self.add_whole(&row).await?;
                    }
                }
            }
        }
        self.followed(Tie::Part).await
    }

    /// What a row is a part of, if it names nobody else: the activity of a participant.
    async fn add_whole(&mut self, row: &Row) -> Result<()> {
        let object = row.object().clone();
        for (index, target, on_delete) in targets(&object) {
            let is_part = on_delete == OnDelete::Cascade
                && object.fields().get(index).is_some_and(|one| one.required)
                && !is_person(target);
            let (Some(id), Some(whole)) =
                (row.value(index).as_uuid(), self.registry.any_object(target))
            else {
                continue;
            };
            if !is_part || is_staff(target) || !holds_personal(&whole) {
                continue;
            }
            if let Some(row) = self.work.row(&whole, id).await?
                && !self.names_somebody_else(&row)
            {
                self.add(
                    &whole,
                    id,
                    Tie::About,
                    Some(object.field_name(index).to_owned()),
                );
            }
        }
        Ok(())
    }

    /// What belongs to the records with a tie, and to that again.
    async fn followed(&mut self, tie: Tie) -> Result<()> {
        let of_tie = |held: &&Held| held.tie == tie;
        let mut open: Vec<(ObjectRef, Uuid)> = self
            .found
            .values()
            .filter(of_tie)
            .map(|held| (held.object.clone(), held.id))
            .collect();
        while let Some((object, id)) = open.pop() {
            for link in self.registry.links_to(object.name()) {
                if link.on_delete != OnDelete::Cascade
                    || is_person(link.object.name())
                    || !self.is_searched(&link.object)
                {
                    continue;
                }
                let by = link.object.path_at(link.field);
                for row in self.leading(&link, id).await? {
                    let is_foreign = tie == Tie::About && self.names_somebody_else(&row);
                    if !is_foreign && self.add(&link.object, row.id(), tie, Some(by.clone())) {
                        open.push((link.object.clone(), row.id()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a row is tied to another person than the subject: by a reference, or by an address
    /// that is not that of a user.
    fn names_somebody_else(&self, row: &Row) -> bool {
        let object = self.registry.described(row.object());
        let custom = object.custom_references();
        let custom = custom.map(|(place, target, _)| (place, target));
        let own = targets(&object).map(|(index, target, _)| (index, target));
        let (mut is_internal, mut names_another) = (false, false);
        for (place, target) in own.chain(custom) {
            let Some(id) = object.read(&**row, place, |value| value.as_uuid()) else {
                continue;
            };
            if is_person(target) {
                let is_same = |one: &EntityRef| one.id == id && one.object == target;
                names_another |= !self.persons.iter().any(is_same);
            }
            is_internal |= is_staff(target);
        }
        let is_another = |address: String| !self.addresses.contains(&address);
        names_another || !is_internal && addresses(&object, row).any(is_another)
    }

    /// What has an address of the person.
    async fn addressed(&mut self) -> Result<()> {
        if self.addresses.is_empty() {
            return Ok(());
        }
        for object in self.objects() {
            if is_person(object.name()) || is_staff(object.name()) {
                continue;
            }
            let object = self.registry.described(&object);
            let required = |index: usize| object.fields().get(index).map(|one| one.required);
            let is_part = targets(&object).any(|(index, _, on_delete)| {
                on_delete == OnDelete::Cascade && required(index) == Some(true)
            });
            for place in address_fields(&object) {
                let Some(wanted) = self.has_address(&object, place) else {
                    continue;
                };
                let by = object.path_at(place);
                for row in self.all(&object, wanted).await? {
                    // A record of an object that the tenant made up leads to the person as well by an
                    // address as by a reference.
                    let is_about = object.template().is_some() && !self.names_somebody_else(&row);
                    let tie = match (is_part, is_about) {
                        (true, _) => Tie::Part,
                        (false, true) => Tie::About,
                        (false, false) => Tie::Address,
                    };
                    self.add(&object, row.id(), tie, Some(by.clone()));
                    if is_part {
                        self.add_whole(&row).await?;
                    }
                }
            }
        }
        for place in self.places {
            let held = Condition::In {
                field: FieldAt::new(place.field),
                values: self.addresses.iter().cloned().map(Value::Text).collect(),
            };
            let by = place.object.field_name(place.field);
            for row in self
                .all(&place.object, held.and(place.among.clone()))
                .await?
            {
                self.add(&place.object, row.id(), Tie::About, Some(by.to_owned()));
            }
        }
        Ok(())
    }

    /// That a field holds one of the addresses.
    fn has_address(&self, object: &ObjectRef, place: usize) -> Option<Condition> {
        let at = FieldAt::at_place(object, place)?;
        Some(Condition::In {
            field: FieldAt {
                ignore_case: true,
                ..at
            },
            values: self.addresses.iter().cloned().map(Value::Text).collect(),
        })
    }

    /// Entries that keep the id of a record found, and something personal beside it.
    async fn traced(&mut self) -> Result<()> {
        let mut ids: Vec<Uuid> = self.found.keys().map(|(_, id)| *id).collect();
        ids.extend(self.persons.iter().map(|person| person.id));
        ids.sort_unstable();
        ids.dedup();
        for object in self.objects() {
            let fields: Vec<usize> = plain_ids(&object).collect();
            if fields.is_empty() || !holds_personal(&object) || is_person(object.name()) {
                continue;
            }
            for batch in ids.chunks(MAX_LIMIT) {
                let any = fields.iter().map(|field| among(*field, batch)).collect();
                for row in self.all(&object, Condition::Or(any)).await? {
                    let is_it = |field: &&usize| {
                        let id = row.value(**field).as_uuid();
                        id.is_some_and(|id| batch.binary_search(&id).is_ok())
                    };
                    let by = fields.iter().find(is_it);
                    let by = by.map(|field| object.field_name(*field).to_owned());
                    self.add(&object, row.id(), Tie::Trace, by);
                }
            }
        }
        Ok(())
    }

    /// Documents that name the person, of objects that nothing else leads to: the query of an export.
    async fn quoted(&mut self) -> Result<()> {
        for object in self.objects() {
            let documents: Vec<usize> = quoting(&object, &self.registry);
            if documents.is_empty() {
                continue;
            }
            let mut query = Query::new(&object, Condition::all()).limit(MAX_LIMIT);
            loop {
                let rows = self.work.select(&query).await?;
                for row in &rows {
                    let names = |field: &&usize| match row.value(**field).into_owned() {
                        Value::Json(json) => quotes(&json, &self.addresses, &self.persons),
                        _ => false,
                    };
                    if let Some(field) = documents.iter().find(names) {
                        let by = object.field_name(*field).to_owned();
                        self.add(&object, row.id(), Tie::Quote, Some(by));
                    }
                }
                match rows.last().filter(|_| rows.len() == MAX_LIMIT) {
                    Some(last) => query.after = Some(vec![Value::Uuid(last.id())]),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Other persons with one of the addresses.
    async fn perhaps(&self) -> Result<Vec<EntityRef>> {
        let mut perhaps = BTreeSet::new();
        for object in self.objects() {
            if !is_person(object.name()) || self.addresses.is_empty() {
                continue;
            }
            let object = self.registry.described(&object);
            for place in address_fields(&object) {
                let Some(wanted) = self.has_address(&object, place) else {
                    continue;
                };
                for row in self.all(&object, wanted).await? {
                    let other = EntityRef::new(object.name(), row.id());
                    if !self.persons.contains(&other) {
                        perhaps.insert(other);
                    }
                }
            }
        }
        Ok(perhaps.into_iter().collect())
    }
}

/// The fields that hold e-mail addresses, those that the tenant added too, by their places.
fn address_fields(object: &ObjectRef) -> impl Iterator<Item = usize> {
    let own = object.fields().iter();
    let custom = object.custom_fields().iter().map(|custom| &custom.field);
    let fields = own.chain(custom).enumerate();
    fields
        .filter(|(_, field)| field.field_type == FieldType::Email)
        .map(|(place, _)| place)
}

/// The e-mail addresses in a row, in lower case.
fn addresses(object: &ObjectRef, row: &Row) -> impl Iterator<Item = String> {
    let texts = address_fields(object)
        .filter_map(|place| object.read(&**row, place, |value| value.as_text().map(fold_case)));
    texts.collect::<Vec<_>>().into_iter()
}

/// The fields that keep an id without leading to its record.
fn plain_ids(object: &ObjectRef) -> impl Iterator<Item = usize> {
    let fields = object.fields().iter().enumerate();
    fields
        .filter(|(index, field)| {
            *index != system::ID
                && !field.system
                && field.field_type == FieldType::Uuid
                && field.record_of.is_none()
        })
        .map(|(index, _)| index)
}

fn holds_personal(object: &ObjectRef) -> bool {
    let mut fields = object.own_fields().iter();
    fields.any(|field| field.privacy != Privacy::Public)
}

/// The personal documents of an object that is tied to no person by a reference, nor by an id.
fn quoting(object: &ObjectRef, registry: &Registry) -> Vec<usize> {
    let described = registry.described(object);
    let is_tied = is_person(object.name())
        || is_staff(object.name())
        || targets(object).any(|(_, target, _)| is_person(target))
        || described
            .custom_references()
            .any(|(_, target, _)| is_person(target))
        || !object.record_links().is_empty()
        || plain_ids(object).next().is_some();
    if is_tied {
        return Vec::new();
    }
    let fields = object.fields().iter().enumerate();
    fields
        .filter(|(index, field)| {
            field.privacy != Privacy::Public
                && field.storage_kind() == StorageKind::Json
                && object.custom_document() != Some(*index)
        })
        .map(|(index, _)| index)
        .collect()
}
