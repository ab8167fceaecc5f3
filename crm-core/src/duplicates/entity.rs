//! [`DuplicateRule`], what tenants set, and [`DuplicateKey`], by which records are found.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::compile::CompiledRule;
use super::rule::MatchRule;
use crate::Id;
use crate::engine::{Remembered, SCHEMA_VERSION, Session, UnitOfWork, Write, WriteRule};
use crate::error::{Result, codes};
use crate::query::SortKey;
use crate::record::Record;
use crate::schema::{Entity, FieldSet, Lifecycle, Picklist, Registry};
use crate::storage::Digests;

/// When records of an object are taken for duplicates, and what is done about it.
///
/// ```
/// use crm_core::duplicates::{DuplicateMode, DuplicateRule};
///
/// let rule = DuplicateRule { mode: DuplicateMode::Strict, ..DuplicateRule::companies() };
/// assert_eq!(rule.object, "account");
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "duplicate_rule",
    table = "duplicate_rules",
    unique(name; ignore_case, live)
)]
pub struct DuplicateRule {
    /// Name.
    #[field(required, max_len = 100)]
    pub name: String,
    /// The object whose records it compares.
    #[field(required, max_len = 100)]
    pub object: String,
    /// When two records are taken for the same.
    #[field(required)]
    pub rule: MatchRule,
    /// What is done about it.
    pub mode: DuplicateMode,
    /// Whether it is applied.
    #[field(default = true)]
    pub is_active: bool,
    /// Where it stands among the rules of its object, the least first.
    #[field(min = 0)]
    pub position: i32,
    /// Whether all records have their keys.
    #[field(read_only)]
    pub state: KeyState,
}

/// What is done about a duplicate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum DuplicateMode {
    /// The check tells of it; nothing is refused.
    #[default]
    Warn,
    /// Creating it is refused, and so are a change and a restoration that make one.
    Strict,
}

/// Whether all records of an object have the keys of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum KeyState {
    /// Not yet: only records written since the rule was set, or since a custom field that it compares
    /// was changed, deleted or restored, are sure to be found.
    #[default]
    Building,
    /// They have.
    Ready,
    /// The rule is not applied and its keys are not kept.
    Inactive,
}

/// A key under which a record is found. The engine keeps it in step with the record: a live or
/// archived one has its keys, a deleted one has none.
///
/// A key that alone makes a duplicate under a strict rule is also the id of its row, so that only
/// one record holds it, whoever writes at the same time.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "duplicate_key",
    table = "duplicate_keys",
    derived,
    index(key, record_id)
)]
pub struct DuplicateKey {
    /// The rule.
    #[field(required)]
    pub rule_id: Uuid,
    /// The key; see [`CompiledRule::keys`].
    #[field(required)]
    pub key: Uuid,
    /// The record.
    #[field(required, indexed)]
    pub record_id: Uuid,
}

/// The fields that a rule names exist, and a rule that changed has its keys built again.
#[derive(Debug)]
pub(crate) struct DuplicateRuleRules;

#[async_trait]
impl WriteRule for DuplicateRuleRules {
    fn object(&self) -> &'static str {
        DuplicateRule::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<DuplicateRule>() else {
            return Ok(());
        };
        let same = write.before::<DuplicateRule>().is_some_and(|before| {
            let set = |rule: &Record<DuplicateRule>| (rule.is_in_use(), rule.mode);
            set(before) == set(after) && before.object == after.object && before.rule == after.rule
        });
        if same || write.deletes() {
            return Ok(());
        }
        let registry = &*work.registry().await?;
        let object = registry.object(&after.object);
        let faults = match object.filter(|object| object.lifecycle() == Lifecycle::Full) {
            Some(object) => CompiledRule::new(&after.rule, after.id.uuid(), &object).err(),
            None => {
                let message = "there is no such object whose records can be compared";
                write.faults().add("object", codes::NOT_FOUND, message);
                return Ok(());
            }
        };
        let state = if after.is_in_use() {
            KeyState::Building
        } else {
            KeyState::Inactive
        };
        for mut fault in faults.into_iter().flat_map(|faults| faults.into_errors()) {
            fault.path = format!("rule.{}", fault.path);
            write.faults().push(fault);
        }
        write.edit(|rule: &mut DuplicateRule| rule.state = state);
        Ok(())
    }
}

impl Record<DuplicateRule> {
    /// Whether the rule is applied: active, neither archived nor deleted.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.is_active && self.archived_at.is_none() && self.deleted_at.is_none()
    }
}

/// A rule that is applied.
#[derive(Debug)]
pub(super) struct ActiveRule {
    pub(super) record: Arc<Record<DuplicateRule>>,
    pub(super) compiled: CompiledRule,
}

impl ActiveRule {
    pub(super) fn new(
        registry: &Registry,
        record: Arc<Record<DuplicateRule>>,
        digests: Option<Arc<dyn Digests>>,
    ) -> Option<Self> {
        let object = registry.object(&record.object)?;
        match CompiledRule::new(&record.rule, record.id.uuid(), &object) {
            Ok(compiled) => Some(Self {
                record,
                compiled: compiled.with_digests(digests),
            }),
            Err(_) => {
                // The host took a field away that the rule names.
                tracing::warn!(rule = %record.id, "a duplicate rule does not fit its object");
                None
            }
        }
    }

    pub(super) fn id(&self) -> Id<DuplicateRule> {
        self.record.id
    }

    pub(super) fn is_strict(&self) -> bool {
        self.record.mode == DuplicateMode::Strict
    }

    /// Whether a record is to be looked at in which these fields changed; all of one that is new.
    pub(super) fn concerns(&self, changed: Option<&FieldSet>) -> bool {
        changed.is_none_or(|changed| {
            let mut fields = self.compiled.fields().iter();
            fields.any(|field| changed.contains(field))
        })
    }
}

impl AsRef<CompiledRule> for &ActiveRule {
    fn as_ref(&self) -> &CompiledRule {
        &self.compiled
    }
}

/// What the keys of a tenant's records are made with; `None` where they are no secret.
pub(super) async fn digests(session: &Session) -> Result<Option<Arc<dyn Digests>>> {
    Ok(session.engine().storage().digests(session.scope()).await?)
}

/// The rules that a tenant applies: strict ones first, then by position.
#[derive(Debug)]
pub(super) struct ActiveRules(Vec<ActiveRule>);

impl ActiveRules {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules of one object.
    pub(super) fn of<'a>(&'a self, object: &str) -> Vec<&'a ActiveRule> {
        let rules = self.0.iter();
        rules.filter(|rule| rule.record.object == object).collect()
    }
}

#[async_trait]
impl Remembered for ActiveRules {
    /// Rules compare custom fields by what these are.
    const OBJECTS: &'static [&'static str] = &["duplicate_rule", SCHEMA_VERSION];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let index = DuplicateRule::schema().field_index("position");
        let by_position = index.map(|index| SortKey {
            index,
            descending: false,
        });
        let rules = work
            .find_all(
                DuplicateRule::IS_ACTIVE.eq(true),
                by_position.into_iter().collect(),
            )
            .await?;
        if rules.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let registry = &*work.registry().await?;
        let digests = digests(work.session()).await?;
        let mut rules: Vec<ActiveRule> = rules
            .into_iter()
            .filter(|rule| rule.is_in_use())
            .filter_map(|rule| ActiveRule::new(registry, rule, digests.clone()))
            .collect();
        rules.sort_by_key(|rule| !rule.is_strict());
        Ok(Self(rules))
    }
}
