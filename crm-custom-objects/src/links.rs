//! [`Links`]: the links of a many-to-many relationship.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use crm_core::Session;
use crm_core::engine::{CommitHook, StagedChange, UnitOfWork};
use crm_core::error::{Error, Faults, Result, RuleViolation, codes};
use crm_core::query::{Comparison, Condition, FieldAt, Filter, Find, Page, Query, QueryError};
use crm_core::schema::{Entity, ObjectRef, Row, Value};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::CustomLink;
use crate::reference_field::relationship;

/// How often a link is looked for again that somebody else made, or removed, at the same moment.
const ATTEMPTS: usize = 8;

/// The links of many-to-many relationships, on a [`Session`].
pub trait LinksExt {
    /// The links of the relationship called `relationship`.
    fn links(&self, relationship: &str) -> Links<'_>;
}

impl LinksExt for Session {
    fn links(&self, relationship: &str) -> Links<'_> {
        Links {
            session: self,
            relationship: relationship.to_owned(),
        }
    }
}

/// The links of one many-to-many relationship. Its first object is the one that the definition is
/// read from.
///
/// Links are records of an object with the relationship's name, so they have versions and a trail, and
/// `session.object("deal_products")` reads and writes them too, also within a unit of work. Two
/// records are linked at most once. Links are deleted, restored and removed for good with either of
/// the records, and follow one that is merged.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// use crm_core::query::Find;
/// use crm_custom_objects::LinksExt;
///
/// # async fn example(session: &Session, deal: uuid::Uuid, product: uuid::Uuid) -> Result<()> {
/// let links = session.links("deal_products");
/// links.link(deal, product).await?;
/// for linked in links.from(deal, &Find::new()).await?.items {
///     println!("{:?}", linked.record.get("name"));
/// }
/// links.unlink(deal, product).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Links<'s> {
    session: &'s Session,
    relationship: String,
}

/// A link and the record at its other end.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The link, with what is told about it in `data`.
    pub link: Row,
    /// The record.
    pub record: Row,
}

impl Links<'_> {
    /// The object of the links.
    async fn object(&self) -> Result<ObjectRef> {
        let object = self.session.describe(&self.relationship).await?;
        match object.template() {
            Some(template) if template.object == *CustomLink::schema() => Ok(object),
            _ => Err(QueryError::UnknownObject(self.relationship.clone()).into()),
        }
    }

    /// Links a record of the first object to one of the second. If they are linked already, that link
    /// is the answer.
    ///
    /// # Errors
    /// [`Error::Validation`] with `from_id` or `to_id` where a record is not there; [`Error::Rule`]
    /// where the relationship takes no new links.
    pub async fn link(&self, from: impl Into<Uuid>, to: impl Into<Uuid>) -> Result<Row> {
        self.link_as(from.into(), to.into(), None).await
    }

    /// Links two records and lays `data`, a JSON object, over what is told about the link (RFC 7396).
    ///
    /// # Errors
    /// Those of [`link`](Self::link).
    pub async fn link_with(
        &self,
        from: impl Into<Uuid>,
        to: impl Into<Uuid>,
        data: Json,
    ) -> Result<Row> {
        self.link_as(from.into(), to.into(), Some(data)).await
    }

    async fn link_as(&self, from: Uuid, to: Uuid, data: Option<Json>) -> Result<Row> {
        self.object().await?;
        let mut records = self.session.object(&self.relationship).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let is_last = attempts == ATTEMPTS;
            let outcome = match (self.between(from, to).await?, &data) {
                (Some(link), None) => return Ok(link),
                (Some(link), Some(data)) => {
                    let patch = Map::from_iter([("data".to_owned(), data.clone())]);
                    records.merge(link.id(), link.version(), &patch).await
                }
                (None, data) => {
                    let mut body = Map::new();
                    body.insert("from_id".to_owned(), json!(from));
                    body.insert("to_id".to_owned(), json!(to));
                    if let Some(data) = data {
                        body.insert("data".to_owned(), data.clone());
                    }
                    records.create(&body).await
                }
            };
            match outcome {
                // Somebody else linked them, changed the link or removed it meanwhile.
                Err(Error::Duplicate { .. } | Error::Conflict { .. } | Error::NotFound { .. })
                    if !is_last => {}
                outcome => return outcome,
            }
        }
    }

    /// The link between two records, if there is one.
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`].
    pub async fn get(&self, from: impl Into<Uuid>, to: impl Into<Uuid>) -> Result<Option<Row>> {
        self.object().await?;
        self.between(from.into(), to.into()).await
    }

    async fn between(&self, from: Uuid, to: Uuid) -> Result<Option<Row>> {
        let records = self.session.object(&self.relationship).await?;
        let pair = Filter::And(vec![is("from_id", from), is("to_id", to)]);
        let find = Find::<()>::new()
            .filter_by_name(pair)
            .with_archived()
            .limit(1);
        Ok(records.find(&find).await?.items.into_iter().next())
    }

    /// Removes the link between two records; tells whether there was one. It can be restored.
    ///
    /// # Errors
    /// [`Error::Validation`] where it is the last link of a record that needs one.
    pub async fn unlink(&self, from: impl Into<Uuid>, to: impl Into<Uuid>) -> Result<bool> {
        let (from, to) = (from.into(), to.into());
        self.object().await?;
        let mut records = self.session.object(&self.relationship).await?;
        let Some(link) = self.between(from, to).await? else {
            return Ok(false);
        };
        match records.delete(link.id()).await {
            Ok(()) => Ok(true),
            // Somebody else was faster.
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One page of the records of the second object that a record of the first is linked to. `find`
    /// filters and sorts links; `{"field": "to_id", "has": ..}` asks for the records.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn from(&self, from: impl Into<Uuid>, find: &Find<()>) -> Result<Page<Linked>> {
        self.page(("from_id", from.into()), "to_id", find).await
    }

    /// One page of the records of the first object that are linked to a record of the second.
    ///
    /// # Errors
    /// [`Error::Query`].
    pub async fn to(&self, to: impl Into<Uuid>, find: &Find<()>) -> Result<Page<Linked>> {
        self.page(("to_id", to.into()), "from_id", find).await
    }

    async fn page(
        &self,
        (own, id): (&'static str, Uuid),
        other: &'static str,
        find: &Find<()>,
    ) -> Result<Page<Linked>> {
        let object = self.object().await?;
        let records = self.session.object(&self.relationship).await?;
        let found = records
            .find(&find.clone().filter_by_name(is(own, id)))
            .await?;
        let target = object.field(other).and_then(|field| field.reference());
        let target = match target {
            Some((target, _)) => self.session.describe(target).await?,
            None => return Err(QueryError::UnknownObject(self.relationship.clone()).into()),
        };
        let leads = |link: &Row| link.get(other).as_uuid();
        let ids: Vec<Uuid> = found.items.iter().filter_map(leads).collect();
        let rows = self.session.begin().rows(&target, &ids).await?;
        let rows: HashMap<Uuid, Row> = rows
            .into_iter()
            .filter(|row| !row.is_deleted())
            .map(|row| (row.id(), row))
            .collect();
        let read: Vec<(Uuid, i64)> = rows.values().map(|row| (row.id(), row.version())).collect();
        self.session.hand_out(&target, &read).await?;
        let linked = |link: Row| {
            let record = rows.get(&leads(&link)?)?.clone();
            Some(Linked { link, record })
        };
        Ok(Page {
            items: found.items.into_iter().filter_map(linked).collect(),
            next: found.next,
            previous: found.previous,
        })
    }
}

fn is(field: &'static str, id: Uuid) -> Filter {
    Filter::Compare {
        field: field.into(),
        op: Comparison::Eq,
        value: Value::Uuid(id),
    }
}

/// Of records of the first object: those linked to a record of the second that fulfils `filter`.
///
/// ```
/// use crm_core::query::Filter;
/// use crm_custom_objects::linked_to;
///
/// // Deals with an active product.
/// let deals = linked_to("deal_products", Filter::eq("is_active", true));
/// assert_eq!(serde_json::to_value(&deals)?["any"], "deal_products");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn linked_to(relationship: &str, filter: Filter) -> Filter {
    through(relationship, "from_id", "to_id", filter)
}

/// Of records of the second object: those that a record of the first is linked to which fulfils
/// `filter`.
#[must_use]
pub fn linked_from(relationship: &str, filter: Filter) -> Filter {
    through(relationship, "to_id", "from_id", filter)
}

fn through(relationship: &str, by: &'static str, other: &'static str, filter: Filter) -> Filter {
    Filter::Any {
        object: relationship.to_owned().into(),
        by: by.into(),
        filter: Box::new(Filter::Has {
            field: other.into(),
            filter: Box::new(filter),
        }),
    }
}

/// R-072, R-291: new links only where the relationship takes them; a record that needs a link has one.
#[derive(Debug)]
pub(crate) struct LinkRules;

/// The links of a relationship that a commit has to do with.
#[derive(Default)]
struct Concerned {
    /// Whether there is a new one.
    is_linked: bool,
    /// The records of the first object that are new, or lost a link.
    records: BTreeSet<Uuid>,
}

fn is_live(row: Option<&Row>) -> bool {
    row.is_some_and(|row| !row.is_deleted())
}

#[async_trait]
impl CommitHook for LinkRules {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let registry = work.registry().await?;
        let objects = registry.objects();
        let is_link = |object: &&ObjectRef| {
            let template = object.template();
            template.is_some_and(|template| template.object == *CustomLink::schema())
        };
        let links: Vec<&ObjectRef> = objects.values().filter(is_link).collect();
        if links.is_empty() {
            return Ok(());
        }
        let mut concerned: BTreeMap<String, Concerned> = BTreeMap::new();
        for change in work.staged() {
            for link in &links {
                note(change, link, &mut concerned);
            }
        }
        let mut faults = Faults::default();
        for (name, concerned) in concerned {
            if let Some(link) = registry.object(&name) {
                check(work, &link, concerned, &mut faults).await?;
            }
        }
        faults.into_result()?;
        Ok(())
    }
}

/// Notes what a change has to do with the links of a relationship.
fn note(change: &StagedChange, link: &ObjectRef, concerned: &mut BTreeMap<String, Concerned>) {
    let (before, after) = (change.before(), change.after());
    let from = |row: &Row| row.get("from_id").as_uuid();
    if change.object() == link {
        let new = after.filter(|row| !row.is_deleted()).and_then(from);
        let old = before.filter(|row| !row.is_deleted()).and_then(from);
        if new != old {
            let noted = concerned.entry(link.name().to_owned()).or_default();
            noted.is_linked |= !is_live(before) && new.is_some();
            noted.records.extend(old);
        }
        return;
    }
    let first = link.field("from_id").and_then(|field| field.reference());
    let is_first = first.is_some_and(|(name, _)| name == change.object().name());
    if is_first && is_live(after) && !is_live(before) {
        let noted = concerned.entry(link.name().to_owned()).or_default();
        noted.records.insert(change.id());
    }
}

async fn check(
    work: &mut UnitOfWork,
    link: &ObjectRef,
    concerned: Concerned,
    faults: &mut Faults,
) -> Result<()> {
    let Some(template) = link.template() else {
        return Ok(());
    };
    let Some(definition) = relationship(work, template.id).await? else {
        return Ok(());
    };
    if concerned.is_linked {
        work.rely_on(&*definition);
        if !definition.is_active {
            return Err(RuleViolation::new(
                "inactive_relationship",
                "R-291",
                "the relationship takes no new links: make it active first",
            )
            .into());
        }
    }
    if !definition.is_required || concerned.records.is_empty() {
        return Ok(());
    }
    let (Some(place), Some((first, _))) = (
        link.field_index("from_id"),
        link.field("from_id").and_then(|field| field.reference()),
    ) else {
        return Ok(());
    };
    let Some(first) = work.registry().await?.object(first) else {
        return Ok(());
    };
    let ids: Vec<Uuid> = concerned.records.into_iter().collect();
    let rows = work.rows(&first, &ids).await?;
    let live = rows.iter().filter(|row| !row.is_deleted());
    let live: Vec<Uuid> = live.map(|row| row.id()).collect();
    if live.is_empty() {
        return Ok(());
    }
    let of_records = Condition::In {
        field: FieldAt::new(place),
        values: live.iter().copied().map(Value::Uuid).collect(),
    };
    let query = Query::new(link, of_records.and(Condition::not_deleted()));
    let mut kept: HashMap<Uuid, Row> = HashMap::new();
    for row in work.select(&query).await? {
        if let Some(from) = row.value(place).as_uuid() {
            kept.entry(from).or_insert(row);
        }
    }
    if live.iter().any(|id| !kept.contains_key(id)) {
        let message = "needs at least one link";
        faults.add(definition.name.to_string(), codes::REQUIRED, message);
    }
    // So that two commits do not remove the last two links, each because of the other's.
    for row in kept.values() {
        work.rely_on(&**row);
    }
    Ok(())
}
