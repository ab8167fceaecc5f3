//! The removal of a custom object with all that it has.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use async_trait::async_trait;
use crm_core::engine::Progress;
use crm_core::error::{Error, Result, RuleViolation};
use crm_core::query::{Find, WhereExt};
use crm_core::schema::Entity;
use crm_core::value::{ApiName, TextValue as _};
use crm_core::{Id, Session};

use crate::{CustomField, CustomFieldType, CustomLink, CustomObject, CustomRelationship};

/// How many records go in one commit.
const BATCH: usize = 200;

/// What is to become of the records of a custom object that is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemovalOfObject {
    /// The object is removed only if nothing is of it or leads to it.
    #[default]
    IfUnused,
    /// Its records and their links go with it, and what leads to it from other objects.
    WithRecords,
}

/// What goes with a custom object that is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectContents {
    /// How many records it has.
    pub records: u64,
    /// How many links each of its many-to-many relationships has.
    pub links: BTreeMap<String, u64>,
    /// Its fields.
    pub fields: Vec<ApiName>,
    /// The relationships that it takes part in.
    pub relationships: Vec<ApiName>,
    /// The fields of other objects that lead to it, and belong to no relationship: object and field.
    pub led_to_by: Vec<(ApiName, ApiName)>,
}

impl ObjectContents {
    /// Whether there is no record of it, and nothing from elsewhere leads to it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.records == 0 && self.relationships.is_empty() && self.led_to_by.is_empty()
    }
}

/// Operations on custom objects as a whole, on a [`Session`].
#[async_trait]
pub trait CustomObjectsExt {
    /// What would go with a custom object.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn contents_of_object(&self, object: Id<CustomObject>) -> Result<ObjectContents>;

    /// Removes a custom object (R-504, R-531): first its records, in batches of a commit each, with
    /// what is a part of them and their links; then the definition, with its fields and relationships.
    /// All of it is deleted so that it can be restored. What was stopped, or failed midway, goes on
    /// where it runs again.
    ///
    /// `progress` hears how many records are gone; where it says stop, the definition stays, and the
    /// answer is `false`.
    ///
    /// ```
    /// # use crm_core::{Id, Session, error::Result};
    /// use crm_custom_objects::{CustomObject, CustomObjectsExt, RemovalOfObject};
    ///
    /// # async fn example(session: &Session, viewing: Id<CustomObject>) -> Result<()> {
    /// let contents = session.contents_of_object(viewing).await?;
    /// println!("{} records would go", contents.records);
    /// session.remove_object(viewing, RemovalOfObject::WithRecords, &()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] where the object is used and its records were not to go
    /// with it, or is the engine's own; [`Error::Reference`] where a record must stay.
    async fn remove_object(
        &self,
        object: Id<CustomObject>,
        removal: RemovalOfObject,
        progress: &dyn Progress,
    ) -> Result<bool>;
}

#[async_trait]
impl CustomObjectsExt for Session {
    async fn contents_of_object(&self, object: Id<CustomObject>) -> Result<ObjectContents> {
        let definition = self.records::<CustomObject>().get(object).await?;
        let name = &definition.api_name;
        let registry = self.registry().await?;
        let mut contents = ObjectContents::default();
        let all = Find::<()>::new().with_archived();
        if let Some(object) = registry.object(name.as_str()) {
            let records = self.object(object.name()).await?;
            contents.records = records.count(&all).await?;
        }
        let find = Find::new().with_archived().limit(200);
        let mut fields = find.clone();
        loop {
            let page = self.records::<CustomField>().find(fields.clone()).await?;
            for field in &page.items {
                let leads = field.field_type.target() == Some(name);
                if field.object == *name {
                    contents.fields.push(field.api_name.clone());
                } else if leads && field.relationship_id.is_none() {
                    let field = (field.object.clone(), field.api_name.clone());
                    contents.led_to_by.push(field);
                }
            }
            match page.next {
                Some(next) => fields = fields.after(next),
                None => break,
            }
        }
        let ends = CustomRelationship::FROM_OBJECT
            .eq(name.clone())
            .or(CustomRelationship::TO_OBJECT.eq(name.clone()));
        let mut find = Find::new().filter(ends).with_archived().limit(200);
        loop {
            let relationships = self.records::<CustomRelationship>();
            let page = relationships.find(find.clone()).await?;
            for relationship in &page.items {
                contents.relationships.push(relationship.name.clone());
                let link = registry.object(relationship.name.as_str());
                let link = link.filter(|link| {
                    let template = link.template();
                    template.is_some_and(|template| template.object == *CustomLink::schema())
                });
                if let Some(link) = link {
                    let count = self.object(link.name()).await?.count(&all).await?;
                    contents.links.insert(link.name().to_owned(), count);
                }
            }
            match page.next {
                Some(next) => find = find.after(next),
                None => break,
            }
        }
        Ok(contents)
    }

    async fn remove_object(
        &self,
        object: Id<CustomObject>,
        removal: RemovalOfObject,
        progress: &dyn Progress,
    ) -> Result<bool> {
        let definition = self.records::<CustomObject>().get(object).await?;
        if definition.is_system {
            let message = "the object belongs to the engine";
            return Err(RuleViolation::new("system_object", "R-504", message).into());
        }
        let contents = self.contents_of_object(object).await?;
        if removal == RemovalOfObject::IfUnused && !contents.is_unused() {
            let message =
                "the object is used: say that its records and what leads to it go with it";
            return Err(RuleViolation::new("object_in_use", "R-504", message).into());
        }
        let name = definition.api_name.as_str();
        let is_described = self.registry().await?.object(name).is_some();
        let mut done = 0;
        loop {
            // Whatever is deleted is not found again, so each page is the first.
            let find = Find::<()>::new().with_archived().limit(BATCH);
            let rows = match is_described {
                true => self.object(name).await?.find(&find).await?.items,
                false => Vec::new(),
            };
            if rows.is_empty() {
                break;
            }
            done += delete_batch(self, name, &rows).await?;
            if progress.report(done, Some(contents.records)) == ControlFlow::Break(()) {
                return Ok(false);
            }
        }
        for (of, field) in &contents.led_to_by {
            let named = CustomField::OBJECT
                .eq(of.clone())
                .and(CustomField::API_NAME.eq(field.clone()));
            let find = Find::new().filter(named).with_archived();
            let found = self.records::<CustomField>().find_one(find).await?;
            let leads = |kind: &CustomFieldType| kind.target() == Some(&definition.api_name);
            if let Some(found) = found.filter(|found| leads(&found.field_type)) {
                self.records::<CustomField>().delete(found.id).await?;
            }
        }
        self.records::<CustomObject>().delete(object).await?;
        Ok(true)
    }
}

/// Deletes some records in one commit; those that went with others of them are gone already. Runs
/// again where somebody else changed one of them meanwhile.
async fn delete_batch(
    session: &Session,
    name: &str,
    rows: &[crm_core::schema::Row],
) -> Result<u64> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut work = session.begin();
        let mut deleted = 0;
        for row in rows {
            match work.object(name).await?.delete(row.id()).await {
                Ok(()) => deleted += 1,
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match work.commit().await {
            Ok(_) => return Ok(deleted),
            Err(Error::Conflict { .. }) if attempts < 8 => {}
            Err(error) => return Err(error),
        }
    }
}
