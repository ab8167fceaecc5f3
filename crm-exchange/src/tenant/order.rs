//! The order of objects in a file: each after those that it refers to.

use std::collections::{BTreeMap, BTreeSet};

use crm_core::schema::{ObjectRef, ObjectScope};

/// The objects that an object refers to.
fn targets(object: &ObjectRef) -> BTreeSet<&str> {
    let references = object.references().iter();
    references
        .filter_map(|index| Some(object.fields().get(*index)?.reference()?.0))
        .collect()
}

/// Sorts objects so that each comes after those that it refers to. Objects that refer to one
/// another in a circle form one group. The platform's come first, then what is free by name.
pub(super) fn groups(objects: &[ObjectRef]) -> Vec<Vec<ObjectRef>> {
    let by_name: BTreeMap<&str, &ObjectRef> = objects
        .iter()
        .map(|object| (object.name(), object))
        .collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = by_name
        .iter()
        .map(|(name, object)| (*name, reached(object, &by_name)))
        .collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
    let mut groups: Vec<Vec<ObjectRef>> = Vec::new();
    let mut open: Vec<&ObjectRef> = by_name.values().copied().collect();
    open.sort_by_key(|object| object.scope() != ObjectScope::Platform);
    while let Some(next) = open
        .iter()
        .find(|object| {
            // Whatever it leads to is done, or leads back to it.
            let is_waiting = |other: &&&ObjectRef| {
                reaches(object.name(), other.name()) && !reaches(other.name(), object.name())
            };
            open.iter().find(is_waiting).is_none()
        })
        .copied()
    {
        let (group, rest) = open.into_iter().partition(|other| {
            *other == next
                || reaches(next.name(), other.name()) && reaches(other.name(), next.name())
        });
        let group: Vec<&ObjectRef> = group;
        groups.push(group.into_iter().cloned().collect());
        open = rest;
    }
    groups
}

/// All objects to which references lead from one, over others too.
fn reached<'a>(
    object: &'a ObjectRef,
    by_name: &BTreeMap<&'a str, &'a ObjectRef>,
) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = targets(object).into_iter().collect();
    while let Some(name) = open.pop() {
        if found.insert(name)
            && let Some(object) = by_name.get(name)
        {
            open.extend(targets(object));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crm_core::schema::{FieldSchema, FieldType, ObjectSchema, OnDelete};
    use proptest::prelude::*;

    use super::*;

    fn object(number: usize, targets: &[usize]) -> ObjectRef {
        let name = |number: usize| format!("object_{number}");
        let mut builder = ObjectSchema::builder(name(number), name(number));
        for target in targets {
            let reference = FieldType::Reference {
                object: name(*target).into(),
                on_delete: OnDelete::Restrict,
            };
            builder = builder.field(FieldSchema::new(format!("to_{target}"), reference));
        }
        builder.build()
    }

    proptest! {
        #[test]
        fn every_object_is_there_once_and_after_its_targets(
            edges in prop::collection::vec(prop::collection::vec(0_usize..8, 0..3), 8),
        ) {
            let objects: Vec<ObjectRef> =
                edges.iter().enumerate().map(|(number, to)| object(number, to)).collect();
            let mut done: BTreeSet<String> = BTreeSet::new();
            let mut count = 0;
            for group in groups(&objects) {
                count += group.len();
                done.extend(group.iter().map(|object| object.name().to_owned()));
                for object in &group {
                    prop_assert!(targets(object).into_iter().all(|name| done.contains(name)));
                }
            }
            prop_assert_eq!((count, done.len()), (8, 8));
        }
    }

    #[test]
    fn the_domain_has_an_order() {
        let names: Vec<Vec<String>> = groups(&crm_core::objects())
            .iter()
            .map(|group| {
                group
                    .iter()
                    .map(|object| object.name().to_owned())
                    .collect()
            })
            .collect();
        assert_eq!(names[0], ["tenant"]);
        assert_eq!(names.concat().len(), crm_core::objects().len());
    }
}
