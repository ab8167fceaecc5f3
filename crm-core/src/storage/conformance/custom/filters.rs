//! Filters by custom fields: by values, by texts and lists, by what they refer to.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::super::fixtures::bare;
use super::super::harness::{compare, deletion, ids, new_id, row_with};
use super::super::objects::Specimen;
use super::super::oracle::{compares, text_matches};
use super::super::{Harness, Outcome, ensure, ensure_eq};

use super::{FOLDED, described, fields, world};
use crate::query::{Comparison, Condition, Filter, ListMatch, Query, TextMatch, TreePart};
use crate::schema::{StorageKind, Value};

pub(in crate::storage::conformance) async fn filters_custom_fields(h: &Harness) -> Outcome {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let world = world(h).await?;
    for field in &world.fields {
        for is_null in [true, false] {
            let filter = Filter::Null {
                field: format!("custom_fields.{}", field.name).into(),
                is_null,
            };
            let fulfils = |value: &Value| value.is_null() == is_null;
            world.expect(field, &filter, fulfils).await?;
        }
        if !field.is_sortable() {
            continue;
        }
        // The oracle knows a field that ignores case by the name of another.
        let known_as = if field.name == FOLDED { "code" } else { "" };
        let values = field.values();
        let ops: &[Comparison] = match field.kind() {
            StorageKind::Boolean => &[Eq, Ne],
            _ => &[Eq, Ne, Lt, Le, Gt, Ge],
        };
        for value in &values {
            for op in ops {
                let filter = compare(field.name, *op, value.clone());
                let fulfils = |own: &Value| compares(known_as, &own.as_ref(), *op, value);
                world.expect(field, &filter, fulfils).await?;
                let not = Filter::Not(Box::new(filter));
                world.expect(field, &not, |own| !fulfils(own)).await?;
            }
        }
        let any = Filter::In {
            field: format!("was_{}", field.name).into(),
            values: values.clone(),
        };
        let is_any = |own: &Value| {
            let same = |value: &Value| compares(known_as, &own.as_ref(), Eq, value);
            values.iter().any(same)
        };
        world.expect(field, &any, is_any).await?;
    }
    Ok(())
}

pub(in crate::storage::conformance) async fn filters_custom_texts_and_lists(
    h: &Harness,
) -> Outcome {
    let world = world(h).await?;
    for field in &world.fields {
        match field.kind() {
            StorageKind::Text => {
                for needle in ["no", "NOR", "æ", "%", "it'S", "AL", "2026-01"] {
                    for op in [TextMatch::StartsWith, TextMatch::Contains] {
                        let filter = Filter::Text {
                            field: field.name.into(),
                            op,
                            text: needle.into(),
                        };
                        let fulfils = |own: &Value| text_matches(&own.as_ref(), op, needle);
                        world.expect(field, &filter, fulfils).await?;
                    }
                }
            }
            StorageKind::List => {
                for entries in [
                    &["a"] as &[&str],
                    &["a", "b"],
                    &["it's", "1"],
                    &["null"],
                    &[],
                ] {
                    for op in [ListMatch::Any, ListMatch::All] {
                        let values = entries.iter().map(|entry| (*entry).to_owned());
                        let filter = Filter::List {
                            field: field.name.into(),
                            op,
                            values: values.collect(),
                        };
                        let fulfils = |own: &Value| match own {
                            Value::List(own) => {
                                let has = |entry: &&str| own.iter().any(|own| own == entry);
                                match op {
                                    ListMatch::Any => entries.iter().any(has),
                                    ListMatch::All => entries.iter().all(has),
                                }
                            }
                            _ => false,
                        };
                        world.expect(field, &filter, fulfils).await?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(in crate::storage::conformance) async fn filters_custom_references(h: &Harness) -> Outcome {
    let (object, registry) = described(&fields()?);
    let bench = h.bench();
    let (top, below, other) = (new_id(), new_id(), new_id());
    let specimen = |id: Uuid, name: &str, above: Json| {
        let custom_fields = Some(json!({ "k_above": above, "k_text": 1 }));
        row_with(
            id,
            Specimen {
                custom_fields,
                ..bare(name)
            },
        )
    };
    let last = new_id();
    let rows = [
        specimen(top, "top", Json::Null),
        specimen(below, "below", json!(top)),
        specimen(other, "other", json!(top.to_string().to_uppercase() + " ")),
        specimen(last, "last", json!(below)),
    ];
    bench.insert(rows.clone()).await?;
    let found = async |filter: Filter| -> Outcome<Vec<Uuid>> {
        let condition = Condition::bind(&filter, &object, &registry)?;
        let query = Query::new(&object, condition);
        Ok(ids(&bench.select(&query).await?))
    };
    let has = |filter: Filter| Filter::Has {
        field: "c_above".into(),
        filter: Box::new(filter),
    };
    let sorted = |mut ids: Vec<Uuid>| {
        ids.sort_unstable();
        ids
    };
    let named = |name: &str| compare("name", Comparison::Eq, name);
    ensure_eq!(
        found(has(named("top"))).await?,
        vec![below],
        "led to the top"
    );
    let twice = has(has(named("top")));
    ensure_eq!(
        found(twice.clone()).await?,
        vec![last],
        "led to the top in two steps"
    );
    let tree = |field: &'static str, part, of| Filter::InTree {
        field: field.into(),
        part,
        of,
        by: Some("c_above".into()),
    };
    let within = tree("c_above", TreePart::Within, top);
    ensure_eq!(
        found(within).await?,
        sorted(vec![below, last]),
        "led into the tree"
    );
    let within = tree("id", TreePart::Within, below);
    ensure_eq!(
        found(within).await?,
        sorted(vec![below, last]),
        "in the tree"
    );
    let path = tree("id", TreePart::PathTo, last);
    ensure_eq!(
        found(path).await?,
        sorted(vec![top, below, last]),
        "on the path from the top"
    );
    // Nothing leads to, or over, a deleted record.
    let below = bench.row(&object, below).await?;
    bench.apply(vec![deletion(&below)]).await?;
    ensure!(found(twice).await?.is_empty(), "led over a deleted record");
    let path = tree("id", TreePart::PathTo, last);
    ensure_eq!(
        found(path).await?,
        vec![last],
        "the path ends at a deleted record"
    );
    Ok(())
}
