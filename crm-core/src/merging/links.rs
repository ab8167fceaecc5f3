//! What becomes of the records that lead to one that is merged away, decided over values alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::schema::{AnyRecord, Link, ObjectRef, OnDelete, Row, SYSTEM_FIELDS, UniqueKey, Value};
use crate::storage::unique_value;

use super::LinkFate;

/// The records found by one link.
pub(super) struct Found {
    pub(super) link: Link,
    /// Those that lead to a loser, deleted ones too.
    pub(super) rows: Vec<Row>,
    /// Those that lead to the survivor, where that matters to a unique key.
    pub(super) held: Vec<Row>,
}

/// What becomes of one record.
pub(super) struct Arranged {
    pub(super) row: Row,
    /// Its values afterwards.
    pub(super) after: Vec<Value>,
    /// What happened to which field, for which of the losers.
    pub(super) fates: Vec<Fate>,
    /// What the deletion of the record that it leads to would have done to it.
    pub(super) on_delete: OnDelete,
}

/// What happened to one field of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) loser: usize,
    pub(super) field: usize,
    pub(super) fate: LinkFate,
}

impl Arranged {
    /// Whether the record is deleted, as the survivor already has one like it.
    pub(super) fn is_dropped(&self) -> bool {
        self.fates.iter().any(|fate| fate.fate == LinkFate::Dropped)
    }

    /// What happened to its links, without the flags that it gave up.
    pub(super) fn links(&self) -> impl Iterator<Item = &Fate> {
        let fates = self.fates.iter();
        fates.filter(|one| one.fate != LinkFate::Yielded)
    }

    pub(super) fn is_moved(&self) -> bool {
        self.fates.iter().any(|fate| fate.fate == LinkFate::Moved)
    }

    /// Whether the record stays where it is, and only counts no more.
    pub(super) fn only_yields(&self) -> bool {
        self.fates.iter().all(|fate| fate.fate == LinkFate::Yielded)
    }
}

/// Which records count.
struct Counting<'c> {
    /// The unique keys of those that do.
    taken: HashSet<(String, usize, String)>,
    /// Those that do no more, with the loser whose record counts instead.
    replaced: &'c HashMap<Uuid, usize>,
}

/// Leads everything from the losers to the survivor, loser by loser.
///
/// A record that would lead from the survivor to itself, in two fields of one unique key, or have
/// the same unique key as another is dropped: it says nothing that is not said already. Of records of
/// which one counts, such as the active consent for a purpose, that of the survivor goes on counting,
/// and among losers that of the first, but for those that are `replaced` by that of a loser.
pub(super) fn arrange(
    object: &ObjectRef,
    survivor: Uuid,
    losers: &[Uuid],
    found: Vec<Found>,
    replaced: &HashMap<Uuid, usize>,
) -> Vec<Arranged> {
    let mut counting = Counting {
        taken: HashSet::new(),
        replaced,
    };
    let mut rows: BTreeMap<(String, Uuid), (Arranged, Vec<Link>)> = BTreeMap::new();
    for Found {
        link,
        rows: leading,
        held,
    } in found
    {
        for row in held {
            let Some(loser) = replaced.get(&row.id()).copied() else {
                counting.taken.extend(keys_of(&*row, None));
                continue;
            };
            let flags = flags_of(row.object());
            let after = without(row.values(), &flags);
            if let Ok(row) = row.with_values(row.meta(), after.clone()) {
                counting.taken.extend(keys_of(&*row, None));
            }
            let yielded = flags.into_iter().map(|field| Fate {
                loser,
                field,
                fate: LinkFate::Yielded,
            });
            let arranged = Arranged {
                fates: yielded.collect(),
                row,
                after,
                on_delete: link.on_delete,
            };
            let place = (arranged.row.object().name().to_owned(), arranged.row.id());
            rows.insert(place, (arranged, Vec::new()));
        }
        for row in leading {
            if row.object() == object && row.id() == survivor {
                continue;
            }
            let place = (row.object().name().to_owned(), row.id());
            let (_, links) = rows.entry(place).or_insert_with(|| {
                let arranged = Arranged {
                    after: row.values(),
                    row,
                    fates: Vec::new(),
                    on_delete: link.on_delete,
                };
                (arranged, Vec::new())
            });
            links.push(link.clone());
        }
    }
    for (number, loser) in losers.iter().enumerate() {
        for (arranged, links) in rows.values_mut() {
            lead(
                object,
                survivor,
                losers,
                (number, *loser),
                arranged,
                links,
                &mut counting,
            );
        }
    }
    rows.into_values()
        .map(|(arranged, _)| arranged)
        .filter(|arranged| !arranged.fates.is_empty())
        .collect()
}

/// Leads one record from one loser to the survivor.
fn lead(
    object: &ObjectRef,
    survivor: Uuid,
    losers: &[Uuid],
    (number, loser): (usize, Uuid),
    arranged: &mut Arranged,
    links: &[Link],
    counting: &mut Counting<'_>,
) {
    if arranged.is_dropped() {
        return;
    }
    let row = &arranged.row;
    let value_at = |values: &[Value], field: usize| {
        let place = field.checked_sub(SYSTEM_FIELDS);
        place
            .and_then(|place| values.get(place))
            .and_then(|value| value.as_ref().as_uuid())
    };
    // The link was made for this object; what it names besides the id stays as it is.
    let leads = |link: &&Link| link.object.id_among(&arranged.after, link.field) == Some(loser);
    let leading: Vec<&Link> = links.iter().filter(leads).collect();
    let moved: Vec<usize> = leading.iter().map(|link| link.field).collect();
    let Some(first) = moved.first().copied() else {
        return;
    };
    let mut after = arranged.after.clone();
    for link in leading {
        let survivor = Value::Uuid(survivor);
        link.object.lay(&mut after, link.field, survivor);
    }
    let Ok(mut turned) = row.with_values(row.meta(), after.clone()) else {
        return;
    };
    let mut keys: Vec<_> = keys_of(&*turned, Some(&moved)).collect();
    let taken = &mut counting.taken;
    let mut yielded = match counting.replaced.contains_key(&row.id()) {
        true => flags_of(row.object()),
        false => Vec::new(),
    };
    for (_, number, _) in keys.iter().filter(|key| taken.contains(key)) {
        let key = row.object().unique_keys().get(*number);
        let flag = key.and_then(|key| flag_of(row.object(), key));
        yielded.extend(flag.filter(|flag| !yielded.contains(flag)));
    }
    if !yielded.is_empty() {
        after = without(after, &yielded);
        let Ok(yielding) = row.with_values(row.meta(), after.clone()) else {
            return;
        };
        turned = yielding;
        keys = keys_of(&*turned, Some(&moved)).collect();
    }
    let is_loser = row.object() == object && losers.contains(&row.id());
    if !is_loser {
        let leads_to_itself = row.object().unique_keys().iter().any(|key| {
            let same = |field: &&usize| value_at(&after, **field) == Some(survivor);
            key.fields.iter().filter(same).count() > 1
        });
        if leads_to_itself || keys.iter().any(|key| taken.contains(key)) {
            // What is deleted already stays where it is.
            if !row.is_deleted() {
                arranged.fates.push(Fate {
                    loser: number,
                    field: first,
                    fate: LinkFate::Dropped,
                });
            }
            return;
        }
    }
    taken.extend(keys);
    arranged.after = after;
    let fate = |fate| {
        move |field| Fate {
            loser: number,
            field,
            fate,
        }
    };
    let moved = moved.into_iter().map(fate(LinkFate::Moved));
    arranged.fates.extend(moved);
    let yielded = yielded.into_iter().map(fate(LinkFate::Yielded));
    arranged.fates.extend(yielded);
}

/// The flag that people set on the one record that counts in a unique key: a record can give it up and
/// stay. One that the engine keeps is no such flag.
fn flag_of(object: &ObjectRef, key: &UniqueKey) -> Option<usize> {
    let flag = key.only_if?;
    let field = object.fields().get(flag)?;
    (!field.read_only).then_some(flag)
}

/// All such flags of an object.
fn flags_of(object: &ObjectRef) -> Vec<usize> {
    let keys = object.unique_keys().iter();
    let mut flags: Vec<usize> = keys.filter_map(|key| flag_of(object, key)).collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

/// Values without these flags.
fn without(mut values: Vec<Value>, flags: &[usize]) -> Vec<Value> {
    for flag in flags {
        let place = flag.checked_sub(SYSTEM_FIELDS);
        if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
            *slot = Value::Boolean(false);
        }
    }
    values
}

/// The values of a row in the unique keys that have one of the fields, or in all of them.
pub(crate) fn keys_of<'a>(
    row: &'a dyn AnyRecord,
    fields: Option<&'a [usize]>,
) -> impl Iterator<Item = (String, usize, String)> + 'a {
    let object = row.object();
    let keys = object.unique_keys().iter().enumerate();
    keys.filter(move |(_, key)| {
        fields.is_none_or(|fields| fields.iter().any(|field| key.fields.contains(field)))
    })
    .filter_map(move |(number, key)| {
        let values = unique_value(key, row)?;
        // The JSON form of the few kinds of values is exact.
        let text: Vec<_> = values.iter().map(Value::to_json).collect();
        Some((object.name().to_owned(), number, format!("{text:?}")))
    })
}
