//! What the model makes of each operation.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::draft::{Draft, weigh};
use super::engine::members;
use super::{Operation, Told};

/// Runs an operation on the model; `new` is the id that the engine gave to a new record.
pub(super) fn imagine(draft: &mut Draft, operation: &Operation, new: Uuid) -> Told {
    use Operation as Op;
    match operation.clone() {
        Op::CreateAccount { name, parent } => {
            let fields = [
                ("name", json!(name)),
                ("parent_account_id", json!(parent)),
                ("custom_fields", json!({})),
                ("tags", json!([])),
            ];
            draft.add("account", new, &fields);
        }
        Op::SetParent { id, parent } => {
            let item = draft.item("account", id)?;
            if parent.is_some() && item.id("parent_account_id") != parent {
                draft.check_cycle(id, parent)?;
            }
            draft.set(("account", id), "parent_account_id", json!(parent));
        }
        Op::CountUp { id } => {
            let count = draft.item("account", id)?.fields["employee_count"].as_i64();
            draft.set(
                ("account", id),
                "employee_count",
                json!(count.unwrap_or(0) + 1),
            );
        }
        Op::MergeAccount { id, stale, patch } => {
            let mut item = draft.item("account", id)?;
            if stale {
                return Err("conflict");
            }
            for (name, value) in members(&patch) {
                let (field, slot) = item
                    .fields
                    .iter_mut()
                    .find(|(field, _)| **field == name)
                    .unwrap();
                if *field != "custom_fields" {
                    *slot = value;
                    continue;
                }
                for (member, value) in members(&value) {
                    let slot = slot.as_object_mut().unwrap();
                    if value.is_null() {
                        slot.remove(&member);
                    } else {
                        slot.insert(member, value);
                    }
                }
            }
            draft.put(("account", id), item);
        }
        Op::CreateContact { email, account } => {
            let fields = [
                ("first_name", json!("Hank")),
                ("last_name", json!("Scorpio")),
                ("email", json!(email)),
                ("account_id", json!(account)),
            ];
            draft.add("contact", new, &fields);
        }
        Op::SetEmail { id, email } => {
            draft.item("contact", id)?;
            draft.set(("contact", id), "email", json!(email));
        }
        Op::CreatePipeline { name, is_default } => {
            if is_default {
                draft.take_default();
            }
            let fields = [("name", json!(name)), ("is_default", json!(is_default))];
            draft.add("pipeline", new, &fields);
        }
        Op::SetDefault { id } => {
            if draft.item("pipeline", id)?.fields["is_default"] == false {
                draft.take_default();
                draft.set(("pipeline", id), "is_default", json!(true));
            }
        }
        Op::AddStage {
            pipeline,
            name,
            stage_type,
        } => {
            draft.item("pipeline", pipeline)?;
            let stages = draft.now.stages(pipeline);
            if stages
                .iter()
                .any(|(_, stage)| stage.fields["name"] == json!(name))
            {
                return Err("duplicate");
            }
            let last = stages.last().map_or(0, |(_, stage)| {
                stage.fields["stage_order"].as_i64().unwrap()
            });
            let fields = [
                ("pipeline_id", json!(pipeline)),
                ("name", json!(name)),
                ("stage_order", json!(last + 1)),
                ("stage_type", json!(stage_type.as_str())),
                ("default_probability", json!("0")),
            ];
            draft.add("pipeline_stage", new, &fields);
        }
        Op::WeighStage { id, percent } => {
            draft.item("pipeline_stage", id)?;
            let counts = json!(percent.to_string());
            if draft.now.items[&("pipeline_stage", id)].fields["default_probability"] == counts {
                return Ok(());
            }
            draft.set(
                ("pipeline_stage", id),
                "default_probability",
                counts.clone(),
            );
            for key in draft.now.refers("deal", "stage_id", id) {
                let deal = &draft.now.items[&key];
                if deal.is_live() && deal.fields["probability"].is_null() {
                    draft.set(key, "win_probability", counts.clone());
                }
            }
        }
        Op::Reorder { pipeline } => {
            draft.item("pipeline", pipeline)?;
            let mut order: Vec<_> = draft
                .now
                .stages(pipeline)
                .iter()
                .map(|(stage, _)| *stage)
                .collect();
            order.reverse();
            for (place, stage) in (1..).zip(order) {
                draft.set(("pipeline_stage", stage), "stage_order", json!(place));
            }
        }
        Op::DeleteStage { id, target } => {
            if target == Some(id) {
                return Err("validation");
            }
            if let Some(target) = target {
                for key in draft.now.refers("deal", "stage_id", id) {
                    if draft.now.items[&key].is_live() {
                        draft.enter(key.1, target)?;
                    }
                }
            }
            draft.delete("pipeline_stage", id)?;
        }
        Op::CreateDeal {
            pipeline,
            account,
            contact,
        } => {
            let stages = draft.now.stages(pipeline);
            let first = stages
                .iter()
                .find(|(_, stage)| stage.fields["stage_type"] == "open");
            let (stage, _) = *first.ok_or("validation")?;
            let fields = [
                ("name", json!("Rollout")),
                ("pipeline_id", json!(pipeline)),
                ("account_id", json!(account)),
                ("contact_id", json!(contact)),
                ("status", json!("open")),
            ];
            draft.add("deal", new, &fields);
            draft.enter(new, stage)?;
        }
        Op::Move { id, stage } => {
            draft.item("deal", id)?;
            draft.enter(id, stage)?;
        }
        Op::Close { id, won } => {
            let deal = draft.item("deal", id)?;
            let wanted = if won { "closed_won" } else { "closed_lost" };
            let stages = draft.now.stages(deal.id("pipeline_id").unwrap());
            let stage = stages
                .iter()
                .find(|(_, stage)| stage.fields["stage_type"] == wanted);
            let (stage, _) = *stage.ok_or("no_such_stage")?;
            if !won {
                draft.set(("deal", id), "close_reason", json!("price"));
            }
            draft.enter(id, stage)?;
        }
        Op::Reopen { id } => {
            let deal = draft.item("deal", id)?;
            if deal.fields["status"] == "open" {
                return Err("not_closed");
            }
            let stages = draft.now.stages(deal.id("pipeline_id").unwrap());
            let open: Vec<_> = stages
                .iter()
                .filter(|(_, stage)| stage.fields["stage_type"] == "open")
                .map(|(stage, _)| *stage)
                .collect();
            let left = draft.now.steps[&id]
                .iter()
                .rev()
                .find_map(|(from, _)| open.iter().find(|stage| json!(stage) == *from));
            let stage = *left.or_else(|| open.first()).ok_or("no_such_stage")?;
            draft.enter(id, stage)?;
        }
        Op::SetProbability { id, percent } => {
            let mut deal = draft.item("deal", id)?;
            deal.fields.insert(
                "probability",
                json!(percent.map(|percent| percent.to_string())),
            );
            if deal != draft.now.items[&("deal", id)] {
                let stage = deal.id("stage_id").unwrap();
                weigh(&mut deal, &draft.item("pipeline_stage", stage)?);
                draft.put(("deal", id), deal);
            }
        }
        Op::CreateActivity {
            subject,
            links: [account, contact, deal],
        } => {
            if account.or(contact).or(deal).is_none() {
                return Err("validation");
            }
            let fields = [
                ("subject", json!(subject)),
                ("account_id", json!(account)),
                ("contact_id", json!(contact)),
                ("deal_id", json!(deal)),
                ("status", json!("planned")),
            ];
            draft.add("activity", new, &fields);
        }
        Op::Complete { id } => {
            if draft.item("activity", id)?.fields["status"] == "completed" {
                return Err("finished");
            }
            let at = draft.at.clone();
            draft.set(("activity", id), "status", json!("completed"));
            draft.set(("activity", id), "completed_at", at);
        }
        Op::OpenAgain { id } => {
            draft.item("activity", id)?;
            draft.set(("activity", id), "status", json!("planned"));
            draft.set(("activity", id), "completed_at", Json::Null);
        }
        Op::Archive { object, id } => {
            let mut item = draft.item(object, id)?;
            if item.archived.is_null() {
                item.archived = draft.at.clone();
            }
            draft.put((object, id), item);
        }
        Op::Unarchive { object, id } => {
            let mut item = draft.item(object, id)?;
            item.archived = Json::Null;
            draft.put((object, id), item);
        }
        Op::Delete { object, id } => draft.delete(object, id)?,
        Op::Restore { object, id } => draft.restore(object, id)?,
        Op::Purge { object, id } => draft.purge(object, id)?,
    }
    Ok(())
}
