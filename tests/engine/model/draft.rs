//! A unit of work of the model: what it stages, and what its commit says.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Fields, Item, Key, OBJECTS, Told, World};

#[derive(Clone, Copy, PartialEq)]
enum OnDelete {
    Restrict,
    SetNull,
    Cascade,
}

/// Every reference that the model follows.
const REFERENCES: [(&str, &str, &str, OnDelete); 10] = [
    ("account", "parent_account_id", "account", OnDelete::SetNull),
    ("activity", "account_id", "account", OnDelete::SetNull),
    ("activity", "contact_id", "contact", OnDelete::SetNull),
    ("activity", "deal_id", "deal", OnDelete::SetNull),
    ("contact", "account_id", "account", OnDelete::SetNull),
    ("deal", "account_id", "account", OnDelete::SetNull),
    ("deal", "contact_id", "contact", OnDelete::SetNull),
    ("deal", "pipeline_id", "pipeline", OnDelete::Restrict),
    ("deal", "stage_id", "pipeline_stage", OnDelete::Restrict),
    (
        "pipeline_stage",
        "pipeline_id",
        "pipeline",
        OnDelete::Cascade,
    ),
];

/// The model of a unit of work.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) base: World,
    pub(super) now: World,
    pub(super) touched: BTreeSet<Key>,
    pub(super) at: Json,
    pub(super) today: Json,
}

impl Draft {
    pub(super) fn item(
        &self,
        object: &'static str,
        id: Uuid,
    ) -> std::result::Result<Item, &'static str> {
        match self.now.items.get(&(object, id)) {
            Some(item) if item.is_live() => Ok(item.clone()),
            _ => Err("not_found"),
        }
    }

    /// The version that a record has in the unit of work.
    pub(super) fn version(&self, object: &'static str, id: Uuid) -> i64 {
        let before = self
            .base
            .items
            .get(&(object, id))
            .map_or(0, |item| item.version);
        before.max(1) + i64::from(before > 0 && self.touched.contains(&(object, id)))
    }

    pub(super) fn put(&mut self, key: Key, item: Item) {
        if self.now.items.get(&key) != Some(&item) {
            self.now.items.insert(key, item);
            self.touched.insert(key);
        }
    }

    pub(super) fn set(&mut self, key: Key, field: &'static str, value: Json) {
        let mut item = self.now.items[&key].clone();
        item.fields.insert(field, value);
        self.put(key, item);
    }

    pub(super) fn add(&mut self, object: &'static str, id: Uuid, given: &[(&'static str, Json)]) {
        let names = OBJECTS.iter().find(|(name, _)| *name == object).unwrap().1;
        let mut fields: Fields = names.iter().map(|name| (*name, Json::Null)).collect();
        fields.extend(given.iter().cloned());
        self.put(
            (object, id),
            Item {
                version: 0,
                archived: Json::Null,
                deleted: Json::Null,
                fields,
            },
        );
    }

    ///
    pub(super) fn check_cycle(&self, id: Uuid, parent: Option<Uuid>) -> Told {
        let mut next = parent;
        while let Some(above) = next {
            if above == id {
                return Err("cycle");
            }
            next = self
                .item("account", above)
                .ok()
                .and_then(|item| item.id("parent_account_id"));
        }
        Ok(())
    }

    ///
    pub(super) fn enter(&mut self, deal: Uuid, stage: Uuid) -> Told {
        let key = ("deal", deal);
        let mut item = self.now.items[&key].clone();
        let target = self
            .item("pipeline_stage", stage)
            .map_err(|_| "validation")?;
        if item.fields["stage_id"] == json!(stage) {
            return Ok(());
        }
        if target.fields["pipeline_id"] != item.fields["pipeline_id"] {
            return Err("validation");
        }
        let was_closed = item.fields["status"] != "open";
        let (status, probability) = match target.fields["stage_type"].as_str().unwrap() {
            "closed_won" => ("won", json!("100")),
            "closed_lost" => ("lost", json!("0")),
            _ => ("open", item.fields["probability"].clone()),
        };
        let from = item.fields.insert("stage_id", json!(stage)).unwrap();
        item.fields.insert("status", json!(status));
        item.fields.insert("probability", probability);
        if status == "open" {
            item.fields.insert("actual_close_date", Json::Null);
            if was_closed {
                item.fields.insert("probability", Json::Null);
                item.fields.insert("close_reason", Json::Null);
            }
        } else if !was_closed {
            item.fields.insert("actual_close_date", self.today.clone());
        }
        weigh(&mut item, &target);
        self.put(key, item);
        self.now
            .steps
            .entry(deal)
            .or_default()
            .push((from, json!(stage)));
        Ok(())
    }

    pub(super) fn delete(&mut self, object: &'static str, id: Uuid) -> Told {
        self.item(object, id)?;
        for (other, field, target, on_delete) in REFERENCES {
            if target != object {
                continue;
            }
            for key in self.now.refers(other, field, id) {
                if !self.now.items[&key].is_live() {
                    continue;
                }
                match on_delete {
                    OnDelete::Restrict => return Err("referenced"),
                    OnDelete::Cascade => self.delete(key.0, key.1)?,
                    OnDelete::SetNull if self.is_last_link(key, field) => {
                        self.delete(key.0, key.1)?;
                    }
                    OnDelete::SetNull => self.set(key, field, Json::Null),
                }
            }
        }
        let mut item = self.now.items[&(object, id)].clone();
        item.deleted = self.at.clone();
        self.put((object, id), item);
        Ok(())
    }

    /// an activity without any record is not kept.
    pub(super) fn is_last_link(&self, key: Key, field: &str) -> bool {
        let links = ["account_id", "contact_id", "deal_id"];
        let item = &self.now.items[&key];
        key.0 == "activity"
            && links
                .iter()
                .all(|link| *link == field || item.fields[link].is_null())
    }

    pub(super) fn restore(&mut self, object: &'static str, id: Uuid) -> Told {
        let key = (object, id);
        let mut item = match self.now.items.get(&key) {
            Some(item) if !item.is_live() => item.clone(),
            _ => return Err("not_found"),
        };
        let deleted = std::mem::take(&mut item.deleted);
        if object == "deal" {
            let stage = item.id("stage_id").unwrap();
            let stage = self
                .item("pipeline_stage", stage)
                .map_err(|_| "validation")?;
            weigh(&mut item, &stage);
        }
        if object == "pipeline" && item.fields["is_default"] == true {
            self.take_default();
        }
        self.put(key, item);
        for (other, field, target, on_delete) in REFERENCES {
            if target != object || on_delete == OnDelete::Restrict {
                continue;
            }
            for key in self.now.refers(other, field, id) {
                if self.now.items[&key].deleted == deleted {
                    self.restore(key.0, key.1)?;
                }
            }
        }
        Ok(())
    }

    ///
    pub(super) fn take_default(&mut self) {
        let others: Vec<_> = self
            .now
            .live("pipeline")
            .filter(|(_, item)| item.fields["is_default"] == true)
            .map(|(id, _)| id)
            .collect();
        for id in others {
            self.set(("pipeline", id), "is_default", json!(false));
        }
    }

    pub(super) fn purge(&mut self, object: &'static str, id: Uuid) -> Told {
        match self.now.items.get(&(object, id)) {
            None => return Err("not_found"),
            Some(item) if item.is_live() => return Err("not_deleted"),
            Some(_) => {}
        }
        self.remove(object, id)
    }

    pub(super) fn remove(&mut self, object: &'static str, id: Uuid) -> Told {
        for (other, field, target, on_delete) in REFERENCES {
            if target != object {
                continue;
            }
            for key in self.now.refers(other, field, id) {
                match on_delete {
                    OnDelete::Restrict => return Err("referenced"),
                    OnDelete::Cascade => self.remove(key.0, key.1)?,
                    OnDelete::SetNull if self.is_last_link(key, field) => {
                        self.remove(key.0, key.1)?;
                    }
                    OnDelete::SetNull => self.set(key, field, Json::Null),
                }
            }
        }
        self.now.items.remove(&(object, id));
        self.now.steps.remove(&id);
        self.touched.insert((object, id));
        Ok(())
    }

    /// What the records know of the activities that were completed.
    pub(super) fn roll_up(&mut self) {
        for (object, link) in [
            ("account", "account_id"),
            ("contact", "contact_id"),
            ("deal", "deal_id"),
        ] {
            let records: Vec<Uuid> = self.now.live(object).map(|(id, _)| id).collect();
            for id in records {
                let linked = self.now.live("activity");
                let linked = linked.filter(|(_, activity)| activity.id(link) == Some(id));
                let completed = linked.filter_map(|(_, it)| it.fields["completed_at"].as_str());
                let last = completed.max().map(ToOwned::to_owned);
                self.set((object, id), "last_activity_at", json!(last));
            }
        }
    }

    /// how many deals contacts and accounts have, and how many were won.
    pub(super) fn count_deals(&mut self) {
        for (object, link) in [("account", "account_id"), ("contact", "contact_id")] {
            let records = self.now.items.keys().filter(|(name, _)| *name == object);
            let records: Vec<Key> = records.copied().collect();
            for key in records {
                let deals = self.now.live("deal");
                let own: Vec<_> = deals
                    .filter(|(_, deal)| deal.id(link) == Some(key.1))
                    .map(|(_, deal)| deal.fields["status"] == "won")
                    .collect();
                let won = own.iter().filter(|is_won| **is_won).count();
                self.set(key, "deal_count", json!(own.len()));
                self.set(key, "won_deal_count", json!(won));
            }
        }
    }

    /// What the storage checks, and the versions that it then has.
    pub(super) fn commit(mut self) -> std::result::Result<World, &'static str> {
        self.roll_up();
        self.count_deals();
        let mut values = BTreeSet::new();
        for object in ["contact", "pipeline", "pipeline_stage"] {
            for (_, item) in self.now.live(object) {
                let fields = &item.fields;
                let mut keys = Vec::new();
                match object {
                    "contact" => keys.extend(
                        fields["email"]
                            .as_str()
                            .map(|email| json!(["email", email.to_lowercase()])),
                    ),
                    "pipeline" => {
                        keys.push(json!(["name", fields["name"]]));
                        if fields["is_default"] == true {
                            keys.push(json!("the default"));
                        }
                    }
                    _ => {
                        let pipeline = &fields["pipeline_id"];
                        keys.push(json!(["stage", pipeline, fields["name"]]));
                        keys.push(json!(["order", pipeline, fields["stage_order"]]));
                    }
                }
                for key in keys {
                    if !values.insert(key.to_string()) {
                        return Err("duplicate");
                    }
                }
            }
        }
        for key in &self.touched {
            let Some(item) = self.now.items.get(key).filter(|item| item.is_live()) else {
                continue;
            };
            let before = self.base.items.get(key).filter(|before| before.is_live());
            for (_, field, target, _) in REFERENCES.iter().filter(|reference| reference.0 == key.0)
            {
                let Some(id) = item.id(field) else { continue };
                let is_new = before.is_none_or(|before| before.id(field) != Some(id));
                if is_new && self.item(target, id).is_err() {
                    return Err("validation");
                }
            }
        }
        for key in std::mem::take(&mut self.touched) {
            let version = self
                .base
                .items
                .get(&key)
                .map_or(1, |before| before.version + 1);
            if let Some(item) = self.now.items.get_mut(&key) {
                item.version = version;
            }
        }
        Ok(self.now)
    }
}

/// The probability that counts.
pub(super) fn weigh(deal: &mut Item, stage: &Item) {
    let own = deal.fields["probability"].clone();
    let counts = if own.is_null() {
        stage.fields["default_probability"].clone()
    } else {
        own
    };
    deal.fields.insert("win_probability", counts);
}
