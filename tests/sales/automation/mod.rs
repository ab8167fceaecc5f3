//! C-022, R-047, R-159 to: rules that act by themselves when deals change:
//! in the commit that sets them off, in their order, each once for a deal; counted exactly; and once
//! for each occasion where they wait for time to pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod actions;
mod chains;
mod counts;
mod definitions;
mod properties;
mod waiting;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_engine::automation::{
    Action, Actions, AutomationExecution, AutomationRule, RuleType, TimeBasis, TriggerEvent,
};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use crm_engine::tenancy::Onboarded;
use serde_json::Value as Json;

use crate::common;
use crate::common::{rows_of, tenant};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn always() -> Criteria {
    Filter::all().into()
}

fn set(fields: Json) -> Action {
    let Json::Object(fields) = fields else {
        panic!("fields are an object");
    };
    Action::SetFields { fields }
}

fn tag(tag: &str) -> Action {
    Action::AddTags {
        tags: vec![tag.into()],
    }
}

/// A rule on the entry of any stage.
fn on_entry(name: &str, actions: Vec<Action>) -> AutomationRule {
    AutomationRule::new(
        name,
        RuleType::StageEntry,
        TriggerEvent::StageChanged,
        always(),
        Actions(actions),
    )
}

/// A rule on the change of a field.
fn on_change(name: &str, field: &str, actions: Vec<Action>) -> AutomationRule {
    AutomationRule {
        watched_fields: vec![field.into()],
        ..AutomationRule::new(
            name,
            RuleType::FieldChange,
            TriggerEvent::FieldUpdated,
            always(),
            Actions(actions),
        )
    }
}

/// A rule that waits for days to pass.
fn after_days(name: &str, basis: TimeBasis, days: u32, actions: Vec<Action>) -> AutomationRule {
    AutomationRule {
        time_basis: Some(basis),
        after_days: Some(days),
        ..AutomationRule::new(
            name,
            RuleType::TimeBased,
            TriggerEvent::TimeElapsed,
            always(),
            Actions(actions),
        )
    }
}

/// A tenant on a clock that stands still until it is moved.
struct World {
    office: Onboarded,
    session: Session,
    clock: Arc<ManualClock>,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-03-02T09:00:00Z")));
        let crm = Crm::builder(common::backend::storage(&[]))
            .clock(clock.clone())
            .build();
        let (office, session) = tenant(&crm, "acme").await;
        Self {
            office,
            session,
            clock,
        }
    }

    async fn rule(&self, rule: AutomationRule) -> Id<AutomationRule> {
        self.session
            .automation_rules()
            .create(rule)
            .await
            .unwrap()
            .id
    }

    fn new_deal(&self) -> Deal {
        Deal {
            owner_id: Some(self.office.admin),
            ..Deal::new("Rollout", self.office.pipeline)
        }
    }

    async fn deal(&self) -> Id<Deal> {
        self.session
            .deals()
            .create(self.new_deal())
            .await
            .unwrap()
            .id
    }

    async fn get(&self, deal: Id<Deal>) -> Arc<Record<Deal>> {
        self.session.deals().get(deal).await.unwrap()
    }

    async fn change(&self, deal: Id<Deal>, change: impl Fn(&mut Deal) + Send + Sync) {
        self.session.deals().update(deal, change).await.unwrap();
    }

    /// The log, in the order in which it was written.
    async fn log(&self) -> Vec<AutomationExecution> {
        let rows = rows_of(&self.session, "automation_execution").await;
        let rows = rows.into_iter().filter_map(Record::from_row);
        rows.map(|row: Arc<Record<AutomationExecution>>| row.data.clone())
            .collect()
    }

    async fn executed(&self, rule: Id<AutomationRule>) -> u64 {
        self.session.automation().counts(&[rule]).await.unwrap()[&rule].executed
    }

    async fn run(&self) -> (u64, u64) {
        let run = self.session.automation().run_time_based(&()).await.unwrap();
        (run.executed, run.failed)
    }
}

fn tags(deal: &Record<Deal>) -> Vec<&str> {
    deal.tags.iter().map(String::as_str).collect()
}
