//! Merging together with everything else that keeps records in step: the tree of accounts,
//! affiliations, relationships, consents, roll-ups, series, duplicates, comments. On both backends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::activities::{ActivityRollUp, ActivitySeries, LocalDateTime, Recurrence};
use crm_engine::contacts::{ContactAffiliation, ContactRelationship, RelationshipType};
use crm_engine::duplicates::{DuplicateKey, MatchRule};
use crm_engine::engine::ManualClock;
use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::privacy::{Channel, Consent, ConsentEvidence, Grant, Purpose, Reason, Withdrawal};
use crm_engine::schema::Lifecycle;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

struct World {
    session: Session,
    clock: Arc<ManualClock>,
    admin: Id<User>,
}

type State = BTreeMap<(String, Uuid), Map<String, Json>>;

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(at("2026-03-02T12:00:00Z")));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let onboarding = Onboarding::new("Acme", "acme", "ada@acme.example");
    let onboarded = crm.onboard(onboarding).await.unwrap();
    World {
        session: crm.session(onboarded.tenant, Actor::User(onboarded.admin)),
        clock,
        admin: onboarded.admin,
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

impl World {
    async fn account(&self, name: &str, parent: Option<Id<Account>>) -> Id<Account> {
        let account = Account {
            parent_account_id: parent,
            ..Account::new(name)
        };
        self.session.accounts().create(account).await.unwrap().id
    }

    async fn contact(&self, name: &str, account: Option<Id<Account>>) -> Id<Contact> {
        let contact = Contact {
            account_id: account,
            ..Contact::named(name, "Test")
        };
        self.session.contacts().create(contact).await.unwrap().id
    }

    async fn merge_accounts(&self, survivor: Id<Account>, loser: Id<Account>) -> Id<Merge> {
        let mut accounts = self.session.accounts();
        let merged = accounts
            .merge_into(survivor, &[loser], &Choices::new(), None)
            .await;
        merged.unwrap().merges[0]
    }

    async fn merge_contacts(&self, survivor: Id<Contact>, loser: Id<Contact>) -> Id<Merge> {
        let mut contacts = self.session.contacts();
        let merged = contacts
            .merge_into(survivor, &[loser], &Choices::new(), None)
            .await;
        merged.unwrap().merges[0]
    }

    /// Undoes a merge since which nobody touched anything: all is as it was before.
    async fn undo(&self, merge: Id<Merge>, before: &State) {
        let undone = self.session.merges().undo(merge).await.unwrap();
        assert_eq!(undone.kept, []);
        let after = self.state().await;
        for (place, row) in before {
            assert_eq!(after.get(place), Some(row), "{place:?} differs");
        }
        assert_eq!(after.len(), before.len());
    }

    /// Every record with a life, without what every write changes.
    async fn state(&self) -> State {
        let mut state = State::new();
        let objects = self.session.engine().registry().objects();
        for object in objects.values() {
            if object.lifecycle() != Lifecycle::Full || object.name() == "merge" {
                continue;
            }
            let find = Find::<()>::new().with_archived().with_deleted().limit(500);
            let records = self.session.object(object.name()).await.unwrap();
            for row in records.find(&find).await.unwrap().items {
                let mut json = row.to_json();
                for stamp in ["version", "updated_at", "updated_by", "updated_by_id"] {
                    json.remove(stamp);
                }
                state.insert((object.name().to_owned(), row.id()), json);
            }
        }
        state
    }

    async fn rows_of<E: Entity>(&self) -> Vec<Arc<Record<E>>> {
        let records = self.session.records::<E>();
        records.find(Find::new().limit(500)).await.unwrap().items
    }

    async fn grant(&self, contact: Id<Contact>, consent_type: &str) {
        let evidence = ConsentEvidence {
            source: Some("web_form".into()),
            ..ConsentEvidence::default()
        };
        let grant = Grant::new(consent_type.parse().unwrap(), evidence);
        self.session.consents().grant(contact, grant).await.unwrap();
    }

    async fn withdraw(&self, contact: Id<Contact>, consent_type: &str) {
        let consent_type = consent_type.parse().unwrap();
        let mut consents = self.session.consents();
        consents
            .withdraw(contact, &consent_type, Withdrawal::default())
            .await
            .unwrap();
    }

    async fn refusals(&self, contact: Id<Contact>) -> Vec<Reason> {
        let contacts = self.session.contacts();
        let answer = contacts
            .may_contact(contact, Channel::Email, Purpose::Marketing)
            .await;
        let mut reasons = answer.unwrap().reasons().to_vec();
        reasons.retain(|reason| *reason != Reason::NoAddress);
        reasons
    }

    async fn strict_rule(&self) -> Id<DuplicateRule> {
        let by_phone = json!({"when": {"any": [{"field": "phone", "method": "phone"}]}});
        let rule = DuplicateRule {
            mode: DuplicateMode::Strict,
            ..DuplicateRule::new("Phone", "contact", MatchRule::from_json(&by_phone).unwrap())
        };
        let rule = self.session.duplicate_rules().create(rule).await.unwrap();
        let duplicates = self.session.duplicates();
        duplicates.rebuild_keys(rule.id, None, &()).await.unwrap();
        rule.id
    }
}

fn with_phone(name: &str) -> Contact {
    Contact {
        phone: Some("+49 30 901820".parse().unwrap()),
        ..Contact::named(name, "Test")
    }
}

/// C-019, R-016, R-018: right after a merge the tree is that of the survivor, and after its undoing
/// the former one, for everything that asks it.
#[tokio::test]
async fn the_tree_follows_a_merge_and_its_undoing() {
    let w = world().await;
    let top = w.account("Top", None).await;
    let survivor = w.account("Globex", Some(top)).await;
    let loser = w.account("Globex Corp", Some(top)).await;
    let child = w.account("Child", Some(loser)).await;
    let grandchild = w.account("Grandchild", Some(child)).await;
    let before = w.state().await;
    let path = async |id: Id<Account>| -> Vec<Id<Account>> {
        let path = w.session.accounts().path(id).await.unwrap();
        path.iter().map(|account| account.id).collect()
    };
    let below = async |id: Id<Account>| -> Vec<Id<Account>> {
        let page = w.session.accounts().descendants(id, Find::new()).await;
        let mut below: Vec<_> = page.unwrap().into_iter().map(|it| it.record.id).collect();
        below.sort_unstable();
        below
    };
    let merge = w.merge_accounts(survivor, loser).await;
    assert_eq!(path(grandchild).await, [top, survivor, child, grandchild]);
    assert_eq!(below(survivor).await, [child, grandchild]);
    assert_eq!(below(top).await, [survivor, child, grandchild]);
    assert_eq!(w.session.accounts().depth(grandchild).await.unwrap(), 3);
    w.undo(merge, &before).await;
    assert_eq!(path(grandchild).await, [top, loser, child, grandchild]);
    assert_eq!(below(survivor).await, []);
    assert_eq!(below(loser).await, [child, grandchild]);
}

/// C-005, R-024: who works for a loser works for the survivor, as what they were and since when; no
/// affiliation begins or ends by a merge of accounts.
#[tokio::test]
async fn affiliations_move_with_their_account() {
    let w = world().await;
    let [survivor, loser] = [w.account("A", None).await, w.account("B", None).await];
    let ada = w.contact("Ada", Some(loser)).await;
    let own = w.contact("Own", Some(survivor)).await;
    let also = ContactAffiliation {
        job_title: Some("Adviser".into()),
        ..ContactAffiliation::new(own, loser)
    };
    w.session.contacts().affiliate(also).await.unwrap();
    let before = w.state().await;
    w.clock.advance(TimeDelta::days(40));
    let merge = w.merge_accounts(survivor, loser).await;
    let contact = w.session.contacts().get(ada).await.unwrap();
    assert_eq!(contact.account_id, Some(survivor));
    let affiliations = w.rows_of::<ContactAffiliation>().await;
    assert_eq!(affiliations.len(), 3);
    for affiliation in affiliations {
        assert_eq!(affiliation.account_id, survivor);
        assert_eq!(affiliation.ended_on, None);
        let is_adviser = affiliation.job_title.is_some();
        assert_eq!(affiliation.is_primary, !is_adviser);
    }
    w.undo(merge, &before).await;
}

/// C-005, R-024: where both contacts have an account, the survivor's counts; what is known of the
/// other one's work is not lost.
#[tokio::test]
async fn affiliations_move_with_their_contact() {
    let w = world().await;
    let [a, b] = [w.account("A", None).await, w.account("B", None).await];
    let survivor = w.contact("Ada", Some(a)).await;
    let loser = w.contact("A.", Some(b)).await;
    let before = w.state().await;
    let merge = w.merge_contacts(survivor, loser).await;
    let contact = w.session.contacts().get(survivor).await.unwrap();
    assert_eq!(contact.account_id, Some(a));
    let mut kept: Vec<_> = w
        .session
        .contacts()
        .affiliations(survivor, None)
        .await
        .unwrap()
        .iter()
        .map(|one| (one.account_id, one.is_primary, one.ended_on))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, [(a, true, None), (b, false, None)]);
    w.undo(merge, &before).await;

    // The other account, chosen: its affiliation is the primary one.
    let choices = Choices::new().take("account_id", loser);
    let mut contacts = w.session.contacts();
    let merged = contacts
        .merge_into(survivor, &[loser], &choices, None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.account_id, Some(b));
    let primary: Vec<_> = contacts
        .affiliations(survivor, None)
        .await
        .unwrap()
        .iter()
        .filter(|one| one.is_primary)
        .map(|one| one.account_id)
        .collect();
    assert_eq!(primary, [b]);
}

/// C-005, R-025, R-094: relationships of a loser are the survivor's, in the one form in which they
/// are kept; what would lead to itself, or says what is said already, goes and comes back.
#[tokio::test]
async fn relationships_stay_told_once() {
    use RelationshipType::{Colleague, Partner, ReportsTo};
    let w = world().await;
    let mut people = Vec::new();
    for name in ["A", "B", "C", "D"] {
        people.push(w.contact(name, None).await);
    }
    let [a, b, c, d] = people[..] else { panic!() };
    // Whoever is the survivor: the older or the younger one.
    for (survivor, loser) in [(a, d), (d, a)] {
        let mut contacts = w.session.contacts();
        for (one, other, kind) in [
            (a, d, Colleague),
            (a, b, Colleague),
            (d, b, Colleague),
            (a, c, Partner),
            (b, d, Partner),
            (d, c, ReportsTo),
        ] {
            contacts.relate(one, other, kind).await.unwrap();
        }
        let before = w.state().await;
        let merge = w.merge_contacts(survivor, loser).await;
        let page = contacts.relationships(survivor, Find::new()).await.unwrap();
        let mut told: Vec<_> = page
            .into_iter()
            .map(|relation| (relation.contact.id, relation.kind.as_str()))
            .collect();
        told.sort_unstable();
        let mut wanted = [
            (b, "colleague"),
            (b, "partner"),
            (c, "partner"),
            (c, "reports_to"),
        ];
        wanted.sort_unstable();
        assert_eq!(told, wanted);
        w.undo(merge, &before).await;
        for relationship in w.rows_of::<ContactRelationship>().await {
            let relations = w.session.records::<ContactRelationship>();
            let mut relations = relations;
            relations.delete(relationship.id).await.unwrap();
        }
    }
}

/// C-064, R-026: neither an opt-out nor a withdrawal is lost, whichever of the records it was told
/// to, and the proof of every consent is kept.
#[tokio::test]
async fn no_refusal_is_lost_in_a_merge() {
    let w = world().await;
    for loser_refuses in [true, false] {
        let survivor = w.contact("Ada", None).await;
        let loser = w.contact("A.", None).await;
        let (refusing, other) = if loser_refuses {
            (loser, survivor)
        } else {
            (survivor, loser)
        };
        w.grant(refusing, "marketing_email").await;
        w.grant(other, "marketing_email").await;
        w.grant(other, "marketing_sms").await;
        w.clock.advance(TimeDelta::days(1));
        w.withdraw(refusing, "marketing_email").await;
        let before = w.state().await;
        assert_eq!(w.refusals(other).await, []);
        let merge = w.merge_contacts(survivor, loser).await;
        assert_eq!(w.refusals(survivor).await, [Reason::ConsentWithdrawn]);
        let consents = w.session.consents();
        let email = "marketing_email".parse().unwrap();
        assert!(!consents.has_consent(survivor, &email).await.unwrap());
        let sms = "marketing_sms".parse().unwrap();
        assert!(consents.has_consent(survivor, &sms).await.unwrap());
        let history = consents.history(survivor, Find::new()).await.unwrap();
        assert_eq!(history.items.len(), 3);
        w.undo(merge, &before).await;
        assert_eq!(w.refusals(other).await, []);
        assert_eq!(w.refusals(refusing).await, [Reason::ConsentWithdrawn]);
    }
}

/// C-064: of two consents to the same, one counts after a merge; both are kept as proof. They are
/// proof for everybody else: nobody gives them to another person.
#[tokio::test]
async fn consents_of_both_are_kept() {
    let w = world().await;
    let [survivor, loser] = [w.contact("Ada", None).await, w.contact("A.", None).await];
    w.grant(survivor, "marketing_email").await;
    w.grant(loser, "marketing_email").await;
    let before = w.state().await;
    let merge = w.merge_contacts(survivor, loser).await;
    let consents = w.rows_of::<Consent>().await;
    assert!(consents.iter().all(|it| it.contact_id == Some(survivor)));
    let active = consents.iter().filter(|it| it.is_active).count();
    assert_eq!((consents.len(), active), (2, 1));
    w.undo(merge, &before).await;
    let own = consents.iter().find(|it| it.is_active).unwrap();
    let mut records = w.session.consents();
    let given = records.update(own.id, |consent| consent.contact_id = Some(loser));
    assert_eq!(given.await.unwrap_err().code(), "consent_is_proof");
}

/// C-016, R-018: what an account knows of its activities is right as soon as it is merged, and
/// again when that is undone.
#[tokio::test]
async fn roll_ups_follow_a_merge_and_its_undoing() {
    let w = world().await;
    let [survivor, loser] = [w.account("A", None).await, w.account("B", None).await];
    let call = |account| Activity::new(ActivityType::Call, "Call", account, w.admin);
    let mut activities = w.session.activities();
    let early = activities.create(call(survivor)).await.unwrap().id;
    activities.complete(early, None).await.unwrap();
    w.clock.advance(TimeDelta::days(1));
    let late = activities.create(call(loser)).await.unwrap().id;
    activities.complete(late, None).await.unwrap();
    let planned = Activity {
        scheduled_at: Some(at("2026-03-09T09:00:00Z")),
        ..call(loser)
    };
    activities.create(planned).await.unwrap();
    let before = w.state().await;
    let known = async |id: Id<Account>| {
        let account = w.session.accounts().get(id).await.unwrap();
        (account.last_activity_at, account.next_activity_at)
    };
    let (first, second) = (at("2026-03-02T12:00:00Z"), at("2026-03-03T12:00:00Z"));
    let next = Some(at("2026-03-09T09:00:00Z"));
    assert_eq!(known(survivor).await, (Some(first), None));
    let merge = w.merge_accounts(survivor, loser).await;
    assert_eq!(known(survivor).await, (Some(second), next));
    assert!(!activities.recompute(survivor).await.unwrap());
    w.undo(merge, &before).await;
    for id in [survivor, loser] {
        assert!(!activities.recompute(id).await.unwrap());
    }
}

/// C-015, R-018: a series of a loser goes on with the survivor, and its occurrences go on with the
/// series: a merge is no change of one of them alone.
#[tokio::test]
async fn occurrences_stay_with_their_series() {
    let w = world().await;
    let [survivor, loser] = [w.account("A", None).await, w.account("B", None).await];
    let review = Activity::new(ActivityType::Meeting, "Review", loser, w.admin);
    let series = ActivitySeries::new(
        review,
        Recurrence::parse("FREQ=WEEKLY;BYDAY=MO").unwrap(),
        LocalDateTime::parse("2026-03-09T09:00").unwrap(),
    );
    let series = w.session.activity_series().create(series).await.unwrap();
    let mut all = w.session.activity_series();
    all.materialize(at("2026-04-01T00:00:00Z"), &())
        .await
        .unwrap();
    let before = w.state().await;
    let merge = w.merge_accounts(survivor, loser).await;
    let occurrences = w.rows_of::<Activity>().await;
    assert_eq!(occurrences.len(), 4);
    for occurrence in &occurrences {
        assert_eq!(occurrence.links.account_id, Some(survivor));
        assert!(!occurrence.occurrence.is_individual);
    }
    let now = all.get(series.id).await.unwrap();
    assert_eq!(now.pattern.links.account_id, Some(survivor));
    w.undo(merge, &before).await;
}

/// C-210: comments and followers of the loser are the survivor's; who followed both follows once.
#[tokio::test]
async fn comments_and_followers_move() {
    let w = world().await;
    let [survivor, loser] = [w.account("A", None).await, w.account("B", None).await];
    w.session
        .followers()
        .follow(survivor, w.admin)
        .await
        .unwrap();
    w.session.followers().follow(loser, w.admin).await.unwrap();
    let asked = w
        .session
        .comments()
        .write(loser, "Who is it?")
        .await
        .unwrap();
    w.session
        .comments()
        .reply(asked.id, "Globex")
        .await
        .unwrap();
    let before = w.state().await;
    let merge = w.merge_accounts(survivor, loser).await;
    let comments = w.session.comments().of(survivor, None).await.unwrap();
    assert_eq!(comments.items.len(), 2);
    let followers = w.session.followers().of(survivor).await.unwrap();
    assert_eq!(followers, [w.admin]);
    w.undo(merge, &before).await;
}

/// a loser is no duplicate of anything and leaves no keys; when the merge is undone it has
/// them again. A strict rule, by which the two are duplicates, does not stand in the way of that.
#[tokio::test]
async fn keys_of_duplicates_follow_a_merge_and_its_undoing() {
    let w = world().await;
    let contacts = |contact| async { w.session.contacts().create(contact).await.unwrap().id };
    let survivor = contacts(with_phone("Ada")).await;
    let loser = contacts(with_phone("Countess")).await;
    w.strict_rule().await;
    let holders = async || {
        let keys = w.rows_of::<DuplicateKey>().await;
        let mut holders: Vec<_> = keys.iter().map(|key| key.record_id).collect();
        holders.sort_unstable();
        holders
    };
    let both = [survivor.uuid(), loser.uuid()];
    assert_eq!(holders().await, both);
    let before = w.state().await;
    let merge = w.merge_contacts(survivor, loser).await;
    assert_eq!(holders().await, [survivor.uuid()]);
    w.undo(merge, &before).await;
    assert_eq!(holders().await, both);
}

/// A strict rule gives way for those records that somebody named, in this commit alone.
#[tokio::test]
async fn a_strict_rule_gives_way_for_named_records() {
    let w = world().await;
    w.strict_rule().await;
    let mut contacts = w.session.contacts();
    let father = contacts.create(with_phone("Father")).await.unwrap().id;
    let found = contacts.create(with_phone("Son")).await.unwrap_err();
    let Error::DuplicateFound(found) = found else {
        panic!("{found}")
    };
    let accept = async |ids: Vec<Uuid>, name: &str| {
        let mut work = w.session.begin();
        work.accept_duplicates(ids);
        let created = work.contacts().create(with_phone(name)).await.unwrap().id;
        work.commit().await.map(|_| created)
    };
    let named = found.matches.iter().map(|one| one.record.id).collect();
    let son = accept(named, "Son").await.unwrap();
    // Both are found, and who knows only one of them is told of the other.
    let error = accept(vec![father.uuid()], "Daughter").await.unwrap_err();
    let Error::DuplicateFound(found) = error else {
        panic!("{error}")
    };
    let matches: Vec<_> = found.matches.iter().map(|one| one.record.id).collect();
    assert_eq!(matches, [son.uuid()]);
    let both = vec![father.uuid(), son.uuid()];
    accept(both, "Daughter").await.unwrap();
    let refused = contacts.create(with_phone("Stranger")).await.unwrap_err();
    assert_eq!(refused.code(), "duplicate_found");
    // The first one's keys pass to nobody by mistake.
    contacts.delete(father).await.unwrap();
    let refused = contacts.create(with_phone("Stranger")).await.unwrap_err();
    assert_eq!(refused.code(), "duplicate_found");
}

/// C-067: what was made of a record's data goes with it: keys also of a rule that is not applied any
/// more, and what it knew of its activities.
#[tokio::test]
async fn a_purged_record_leaves_no_derived_rows() {
    let w = world().await;
    let rule = w.strict_rule().await;
    let ada = w
        .session
        .contacts()
        .create(with_phone("Ada"))
        .await
        .unwrap();
    let call = Activity::new(ActivityType::Call, "Call", ada.id, w.admin);
    let call = w.session.activities().create(call).await.unwrap().id;
    w.session.activities().complete(call, None).await.unwrap();
    assert_eq!(w.rows_of::<DuplicateKey>().await.len(), 1);
    assert_eq!(w.rows_of::<ActivityRollUp>().await.len(), 1);
    let mut rules = w.session.duplicate_rules();
    rules
        .update(rule, |rule| rule.is_active = false)
        .await
        .unwrap();
    w.session.contacts().delete(ada.id).await.unwrap();
    assert_eq!(w.rows_of::<DuplicateKey>().await.len(), 1);
    w.session.contacts().purge(ada.id).await.unwrap();
    assert_eq!(w.rows_of::<DuplicateKey>().await.len(), 0);
    assert_eq!(w.rows_of::<ActivityRollUp>().await.len(), 0);
}
