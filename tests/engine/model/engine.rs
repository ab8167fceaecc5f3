//! The same operations on the engine.

use crm_engine::engine::{NamedRecords, Records};
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::Operation;
use super::draft::Draft;

/// A session, or a unit of work of it.
pub(super) enum Place {
    Session(Session),
    Unit(Box<UnitOfWork>),
}

impl Place {
    pub(super) fn records<E: Entity>(&mut self) -> Records<'_, E> {
        match self {
            Self::Session(session) => session.records(),
            Self::Unit(work) => work.records(),
        }
    }

    pub(super) async fn object(&mut self, name: &str) -> NamedRecords<'_> {
        match self {
            Self::Session(session) => session.object(name).await.unwrap(),
            Self::Unit(work) => work.object(name).await.unwrap(),
        }
    }
}

pub(super) fn id<E>(id: Uuid) -> Id<E> {
    Id::new(id)
}

pub(super) fn ids<E>(id: Option<Uuid>) -> Option<Id<E>> {
    id.map(Id::new)
}

pub(super) fn members(json: &Json) -> Map<String, Json> {
    json.as_object().cloned().unwrap_or_default()
}

pub(super) fn percent(whole: u8) -> Percent {
    Percent::from_whole(whole).unwrap()
}

/// Runs an operation on the engine; gives the id of a new record.
pub(super) async fn run(
    place: &mut Place,
    operation: &Operation,
    acme: &Onboarded,
    draft: &Draft,
) -> Result<Option<Uuid>> {
    use Operation as Op;
    match operation.clone() {
        Op::CreateAccount { name, parent } => {
            let account = Account {
                parent_account_id: ids(parent),
                ..Account::new(name)
            };
            return Ok(Some(place.records().create(account).await?.id.uuid()));
        }
        Op::SetParent {
            id: account,
            parent,
        } => {
            place
                .records::<Account>()
                .set_parent(id(account), ids(parent))
                .await?;
        }
        Op::CountUp { id: account } => {
            let count = |account: &mut Account| {
                account.employee_count = Some(account.employee_count.unwrap_or(0) + 1);
            };
            place.records().update(id(account), count).await?;
        }
        Op::MergeAccount {
            id: account,
            stale,
            patch,
        } => {
            let version = draft.version("account", account) - i64::from(stale);
            place
                .object("account")
                .await
                .merge(account, version, &members(&patch))
                .await?;
        }
        Op::CreateContact { email, account } => {
            let contact = Contact {
                email: email.map(|email| EmailAddress::parse(&email).unwrap()),
                account_id: ids(account),
                ..Contact::named("Hank", "Scorpio")
            };
            return Ok(Some(place.records().create(contact).await?.id.uuid()));
        }
        Op::SetEmail { id: contact, email } => {
            let email = email.map(|email| EmailAddress::parse(&email).unwrap());
            let change = |contact: &mut Contact| contact.email.clone_from(&email);
            place.records().update(id(contact), change).await?;
        }
        Op::CreatePipeline { name, is_default } => {
            let pipeline = Pipeline {
                is_default,
                ..Pipeline::new(name)
            };
            return Ok(Some(place.records().create(pipeline).await?.id.uuid()));
        }
        Op::SetDefault { id: pipeline } => {
            place
                .records::<Pipeline>()
                .set_default(id(pipeline))
                .await?;
        }
        Op::AddStage {
            pipeline,
            name,
            stage_type,
        } => {
            let stage = PipelineStage {
                stage_type,
                ..PipelineStage::new(id(pipeline), name, 1_u32)
            };
            let stage = place.records::<Pipeline>().add_stage(stage).await?;
            return Ok(Some(stage.id.uuid()));
        }
        Op::WeighStage {
            id: stage,
            percent: whole,
        } => {
            let change = |stage: &mut PipelineStage| stage.default_probability = percent(whole);
            place
                .records::<Pipeline>()
                .update_stage(id(stage), change)
                .await?;
        }
        Op::Reorder { pipeline } => {
            let mut order: Vec<_> = draft
                .now
                .stages(pipeline)
                .iter()
                .map(|(stage, _)| id(*stage))
                .collect();
            order.reverse();
            place
                .records::<Pipeline>()
                .reorder_stages(id(pipeline), &order)
                .await?;
        }
        Op::DeleteStage { id: stage, target } => {
            place
                .records::<Pipeline>()
                .delete_stage(id(stage), ids(target))
                .await?;
        }
        Op::CreateDeal {
            pipeline,
            account,
            contact,
        } => {
            let deal = Deal {
                account_id: ids(account),
                contact_id: ids(contact),
                ..Deal::new("Rollout", id(pipeline))
            };
            return Ok(Some(place.records().create(deal).await?.id.uuid()));
        }
        Op::Move { id: deal, stage } => {
            place.records::<Deal>().move_to(id(deal), id(stage)).await?;
        }
        Op::Close {
            id: deal,
            won: true,
        } => {
            place.records::<Deal>().win(id(deal)).await?;
        }
        Op::Close {
            id: deal,
            won: false,
        } => {
            place.records::<Deal>().lose(id(deal), "price").await?;
        }
        Op::Reopen { id: deal } => {
            place.records::<Deal>().reopen(id(deal), None).await?;
        }
        Op::SetProbability {
            id: deal,
            percent: whole,
        } => {
            let change = |deal: &mut Deal| deal.probability = whole.map(percent);
            place.records().update(id(deal), change).await?;
        }
        Op::CreateActivity {
            subject,
            links: [account, contact, deal],
        } => {
            let links = ActivityLinks {
                account_id: ids(account),
                contact_id: ids(contact),
                deal_id: ids(deal),
                ..ActivityLinks::default()
            };
            let call = Activity::new(ActivityType::Call, subject, links, acme.admin);
            return Ok(Some(place.records().create(call).await?.id.uuid()));
        }
        Op::Complete { id: activity } => {
            place
                .records::<Activity>()
                .complete(id(activity), None)
                .await?;
        }
        Op::OpenAgain { id: activity } => {
            let change = |activity: &mut Activity| activity.status = ActivityStatus::Planned;
            place.records().update(id(activity), change).await?;
        }
        Op::Archive { object, id } => {
            place.object(object).await.archive(id).await?;
        }
        Op::Unarchive { object, id } => {
            place.object(object).await.unarchive(id).await?;
        }
        Op::Delete { object, id } => place.object(object).await.delete(id).await?,
        Op::Restore { object, id } => {
            place.object(object).await.restore(id).await?;
        }
        Op::Purge { object, id } => place.object(object).await.purge(id).await?,
    }
    Ok(None)
}
